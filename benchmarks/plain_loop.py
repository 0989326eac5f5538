"""The obvious training loop, as most would write it: `bench` measures ours against it. Nothing else uses it.

The same network, images, losses and optimizer as `lab.training`; but images are decoded and augmented one by one in
workers, all pairs are listed and shuffled on the host, each half of a pair batch is picked there and moved, and
the loss is read at every step.
"""

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from simreg_core import pixel_similarity, threshold_targets
from simreg_core.lab.images import ImageSet
from simreg_core.lab.specs import Experiment, stream
from simreg_core.lab.training import CROP_PADDING, build_network, load_data

WORKERS = 2
ENDLESS = 10**6  # batches: more than anyone times
MOMENTUM, EPS = 0.9, 1e-5  # of the running means; of the logarithms


class PicturesOneByOne(Dataset):
    """A labelled image set as PIL pictures: (reflect-padded, cropped, flipped, gray tensor [1, h, w], label)."""

    def __init__(self, images: ImageSet):
        self.pictures = images.images.permute(0, 2, 3, 1).numpy()  # [n, h, w, c] uint8
        self.labels = images.labels.tolist()
        h, w = self.pictures.shape[1:3]
        self.transform = transforms.Compose(
            [
                transforms.Pad(CROP_PADDING, padding_mode="reflect"),
                transforms.RandomCrop((h, w)),
                transforms.RandomHorizontalFlip(),
                transforms.Grayscale(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pictures[index].squeeze())), self.labels[index]


class PlainLoop:
    """A regularized training (gray images, target S^Th, all pairs) of an experiment, step by step.

    workers: processes that decode images.
    Raises ValueError for an experiment that this loop cannot train.
    """

    def __init__(self, experiment: Experiment, device: torch.device, workers: int = WORKERS):
        spec, settings = experiment.regularizer, experiment.optimization
        if spec is None or (spec.target, spec.pairs, spec.augment_once) != ("threshold", "all", "none"):
            raise ValueError("the plain loop trains with target 'threshold', pairs 'all' and augment_once 'none' only")
        if experiment.task.channels != 1:
            raise ValueError(f"the plain loop trains on gray images only, got {experiment.task.channels} channels")
        data = load_data(experiment)
        self.device, self.alpha, self.k = device, spec.alpha, spec.pairs_per_step
        self.network = build_network(experiment, len(data.train.classes)).to(device).train()
        self.images = data.regularization.pixels
        self.targets = threshold_targets(pixel_similarity(self.images), spec.threshold)
        self.pairs = torch.triu_indices(len(self.images), len(self.images), offset=1).T  # [pairs, 2]
        self.generator = torch.Generator().manual_seed(stream(experiment.seed, "plain loop"))
        self.position = 0
        self.layer_logits = nn.Parameter(torch.zeros(5, device=device))
        self.means = [torch.zeros((), device=device)] * 5
        self.optimizer = torch.optim.SGD(
            [*self.network.parameters(), self.layer_logits],
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self._loader = self._load(data.train, settings.batch_size, workers)
        self._batches: Iterator | None = None

    def _load(self, images: ImageSet, batch_size: int, workers: int) -> DataLoader:
        """Batches without end: starting the workers anew each epoch is not what is compared."""
        order = RandomSampler(images.labels, num_samples=ENDLESS * batch_size, generator=self.generator)
        return DataLoader(
            PicturesOneByOne(images),
            batch_size,
            sampler=order,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            generator=self.generator,
        )

    def shuffle_pairs(self) -> None:
        """The start of an epoch: the list of all pairs in a new order."""
        self.pairs = self.pairs[torch.randperm(len(self.pairs), generator=self.generator)]
        self.position = 0

    def run(self, steps: int) -> None:
        """Run `steps` updates, reshuffling the pairs when they run out."""
        if self._batches is None:
            self._batches = iter(self._loader)
        for _ in range(steps):
            pixels, labels = next(self._batches)
            if self.position + self.k > len(self.pairs):
                self.shuffle_pairs()
            rows, cols = self.pairs[self.position : self.position + self.k].T
            self.position += self.k
            self.step(pixels, labels, rows, cols)

    def step(self, pixels: Tensor, labels: Tensor, rows: Tensor, cols: Tensor) -> tuple[float, float]:
        """One update.  pixels: [b, 1, h, w].  labels: [b].  rows, cols: [k].  Returns the two losses before it."""
        pixels, labels = pixels.to(self.device), labels.to(self.device)
        task_loss = F.cross_entropy(self.network(pixels), labels)
        similarity_loss = self._similarity_loss(rows, cols)
        loss = task_loss + self.alpha * similarity_loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return task_loss.item(), similarity_loss.item()

    def _similarity_loss(self, rows: Tensor, cols: Tensor) -> Tensor:
        first = self.network.features(self.images[rows].to(self.device))
        second = self.network.features(self.images[cols].to(self.device))
        target = self.targets[rows, cols].to(self.device)
        gamma = torch.softmax(self.layer_logits, dim=0)
        similarity = torch.zeros(len(rows), device=self.device)
        for layer, (a, b) in enumerate(zip(first, second, strict=True)):
            batch_mean = (a.detach().mean(dim=(0, 2, 3)) + b.detach().mean(dim=(0, 2, 3))) / 2
            self.means[layer] = MOMENTUM * self.means[layer] + (1 - MOMENTUM) * batch_mean
            mean = self.means[layer][:, None, None]
            cosine = F.cosine_similarity((a - mean).flatten(1), (b - mean).flatten(1))
            similarity = similarity + gamma[layer] * cosine
        difference = _log_odds(similarity) - _log_odds(target)
        return (difference**2).mean()

    def close(self) -> None:
        """End the workers."""
        self._batches = None


def _log_odds(x: Tensor) -> Tensor:
    return torch.log(1 + x + EPS) - torch.log(1 - x + EPS)
