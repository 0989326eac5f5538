"""Pictures of what is studied: image sets, an image under each corruption or attack, and inside networks."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from simreg_core.lab.figures.kit import PAGE, Axes, Picture, mpl, panels, plt, use_style
from simreg_core.lab.image_files import DataError
from simreg_core.lab.recipes import levels
from simreg_core.lab.series import LOOKS, NONE, THRESHOLD
from simreg_core.lab.specs import Experiment
from simreg_core.lab.study import Study
from simreg_core.names import GROUPS

if TYPE_CHECKING:
    from torch import Tensor

    from simreg_core.lab.images import ImageSet

NETWORKS = (NONE, THRESHOLD)
BOUNDARY_STEPS = 500
IN_A_ROW = 8
BANDS = ((0.02, 0.12), (0.3, 0.7))  # cycles/pixel, of the changes that are made up


Arguments = ParamSpec("Arguments")


def or_none(draw: Callable[Arguments, Picture | None]) -> Callable[Arguments, Picture | None]:
    """A picture of images that not every machine has: where they are missing that is said, and None returned.

    The figure itself is drawn from records, and no notebook shall end for want of a picture beside it.
    """

    @wraps(draw)
    def drawn(*arguments: Arguments.args, **named: Arguments.kwargs) -> Picture | None:
        try:
            return draw(*arguments, **named)
        except DataError as error:
            print(f"There is no picture here: {error}")
            return None

    return drawn


@or_none
def image_sets(study: Study) -> Picture:
    """A row of training images for each set that the study's networks classify or are regularized with, in its size."""
    from simreg_core.lab.images import load_image_set, spread  # here, as below: to draw from records needs no torch

    roles: dict[tuple, dict[str, None]] = {}
    for block in study.blocks:
        for _, one, _ in block.measurements():
            if not isinstance(one, Experiment):
                continue
            task, spec = one.task, one.regularizer
            roles.setdefault((task.images, task.size, task.channels), {})["classified"] = None
            if spec is not None:
                roles.setdefault((spec.images, spec.size or task.size, task.channels), {})["regularized with"] = None
    use_style()
    figure, axes = plt.subplots(len(roles), IN_A_ROW, figsize=(PAGE, 0.75 * len(roles)), squeeze=False)
    for row, ((name, size, channels), said) in zip(axes, roles.items(), strict=True):
        images = load_image_set(name, "train", size, channels)
        for ax, index in zip(row, images.labels.argsort(stable=True)[spread(len(images), len(row))], strict=True):
            show_image(ax, images.pixels[index])
        label = f"{name}\n{' and '.join(said)}"
        row[0].set_ylabel(label, fontsize="x-small", rotation=0, ha="right", va="center")
    return figure


@or_none
def corrupted(study: Study, index: int = 0, severity: int = 4) -> Picture:
    """A test image of the task, clean and under each of the 15 common corruptions.

    severity: 1 (weak) to 5.  Raises ValueError for another.
    """
    import torch

    from simreg_core.corruptions import corrupt
    from simreg_core.lab.images import load_image_set

    task = study.profile.task
    image = load_image_set(task.images, "test", task.size, task.channels).pixels[index : index + 1]
    shown = {"clean": image}
    for names in GROUPS.values():
        shown |= {name: corrupt(image, name, severity, torch.Generator().manual_seed(0)) for name in names}
    use_style()
    figure, axes = plt.subplots(2, IN_A_ROW, figsize=(PAGE, 2.2))
    for ax, (name, pixels) in zip(axes.flat, shown.items(), strict=True):
        show_image(ax, pixels[0])
        ax.set_title(name.replace("_", " "), fontsize="x-small")
    return figure


def show_image(ax: Axes, pixels: "Tensor") -> None:
    """pixels: [c, h, w] in [0, 1]."""
    ax.imshow(pixels.permute(1, 2, 0).squeeze(-1), cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=(), yticks=())


@or_none
def under_attack(study: Study, index: int | None = None, train: bool = False) -> Picture | None:
    """A test image, clean, under Gaussian noise, FGSM and two boundary attacks; below each what both networks answer.

    study: of a figure with the curves 'none' and 'S^Th'; their networks of seed 0 answer, see `Study.network`.
    index: of the test image; None: the first that both networks classify rightly.
    train: the networks, where they neither ship nor were trained on this machine; else that is said, and None returned.
    FGSM is made on 'none' and shown to both, a boundary attack is made on each network and shown to both. Noise and
    FGSM have 4/9 of the largest ε of the figure.
    Raises ValueError for an index that no test image has, and where there is no image that both classify rightly.
    """
    networks = _networks(study, "under_attack", train)
    if networks is None:
        return None
    images, index = _test_image(study, networks, index)
    shown = _attacked(study, networks, images.pixels[index : index + 1], images.labels[index : index + 1])
    use_style()
    figure, axes = plt.subplots(1, len(shown), figsize=(PAGE, 2.2), layout="constrained")
    for ax, (title, pixels) in zip(axes, shown.items(), strict=True):
        show_image(ax, pixels[0])
        ax.set_title(title, fontsize="small")
        ax.set_xlabel("\n".join(_answers(networks, pixels, images, index)), fontsize="small")
    return figure


@or_none
def under_white_box(study: Study, index: int | None = None, train: bool = False) -> Picture | None:
    """A test image under PGD of each ε of the figure, a row for each network: made on it, and what it answers.

    Arguments and errors as of `under_attack`.
    """
    from simreg_core.attacks import pgd

    networks = _networks(study, "under_white_box", train)
    if networks is None:
        return None
    images, index = _test_image(study, networks, index)
    own = study.profile.white_box
    image, label = images.pixels[index : index + 1], images.labels[index : index + 1]
    figure, axes = panels(len(networks), len(own.epsilons), 1.75 * len(networks), squeeze=False)
    for row, (series, network) in zip(axes, networks.items(), strict=True):
        for ax, epsilon in zip(row, sorted(own.epsilons), strict=True):
            # not left early: an image that is misclassified as it is can be shown too
            attack = pgd(network, image, label, epsilon, steps=own.steps, early_leave=False, seed=0)
            found = attack.adversarial
            show_image(ax, found[0])
            ax.set_xlabel(*_answers({series: network}, found, images, index), fontsize="small")
            ax.set_title(f"ε = {epsilon:g}" if epsilon else "clean", fontsize="small")
        row[0].set_ylabel(f"made on\n{LOOKS[series].label}", fontsize="small", rotation=0, ha="right", va="center")
    return figure


@or_none
def perturbation_spectra(study: Study, index: int | None = None, train: bool = False) -> Picture | None:
    """A test image with four changes, and their power spectra: low and high frequencies, then what fools each network.

    The first two are noise made for the picture, as long as the change that fools 'none'; the last two are boundary
    attacks of BOUNDARY_STEPS steps.  Arguments and errors as of `under_attack`.
    """
    from simreg_core.attacks import boundary_attack
    from simreg_core.spectra import mean_power_spectrum

    networks = _networks(study, "perturbation_spectra", train)
    if networks is None:
        return None
    images, index = _test_image(study, networks, index)
    image = images.pixels[index : index + 1]
    fooling = {
        f"fools the network\n“{LOOKS[series].label}”": boundary_attack(
            network, image, steps=BOUNDARY_STEPS, protocol="strict", seed=0
        ).adversarial - image
        for series, network in networks.items()
    }  # fmt: skip
    low, high = (_waves(next(iter(fooling.values())), *band) for band in BANDS)
    figure, axes = panels(2, 4, 3.5)
    made = {"low frequencies\n(made up)": low, "high frequencies\n(made up)": high}
    for (top, bottom), (title, change) in zip(axes.T, (made | fooling).items(), strict=True):
        show_image(top, (image + change)[0].clamp(0, 1))
        top.set_title(title, fontsize="small")
        power = mean_power_spectrum(change)
        norm = mpl.colors.LogNorm(1e-2, 1)  # as in the figure
        bottom.imshow((power / power.max()).clamp_min(1e-2), cmap="magma", norm=norm)
        bottom.set(xticks=(), yticks=())
    for row, words in zip(axes, ("image and\nchange", "spectrum of\nthe change"), strict=True):
        row[0].set_ylabel(words, fontsize="small")
    return figure


def _waves(like: "Tensor", lowest: float, highest: float) -> "Tensor":
    """Noise of the frequencies between two radii, in cycles/pixel, as long as a given change [1, c, h, w]."""
    import torch

    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(0))
    down, across = (torch.fft.fftfreq(n) for n in like.shape[2:])
    radius = (down[:, None].square() + across.square()).sqrt()
    kept = torch.fft.fft2(noise) * ((lowest <= radius) & (radius <= highest))
    waves = torch.fft.ifft2(kept).real
    return waves * like.norm() / waves.norm()


@or_none
def maps_by_layer(study: Study, indices: tuple[int, ...] = (0, 1), train: bool = False) -> Picture | None:
    """Test images and the feature maps of S^Th that are compared, each the mean over its channels.

    indices: of the test images.  train: as of `under_attack`.  Raises ValueError for an index that none has.
    """
    import torch

    series = next(name for name in study.series if name != NONE)
    networks = _networks(study, "maps_by_layer", train, (series,))
    if networks is None:
        return None
    images = _test_images(study)
    for index in indices:
        _check_index(index, images)
    pixels = images.pixels[list(indices)]
    with torch.no_grad():
        maps = networks[series].features(pixels)
    figure, axes = panels(len(indices), 1 + len(maps), 1.3 * len(indices) + 0.2, squeeze=False)
    for row, image in zip(axes, pixels, strict=True):
        show_image(row[0], image)
    axes[0, 0].set_title("image\n", fontsize="small")
    for column, layer in enumerate(maps, start=1):
        means = layer.mean(dim=1)  # [n, h, w]
        for ax, one in zip(axes[:, column], means, strict=True):
            ax.imshow(one, cmap="viridis", vmin=means.min(), vmax=means.max())
            ax.set(xticks=(), yticks=())
        channels, h, w = layer.shape[1:]
        name = "stem" if column == 1 else f"stage {column - 1}"
        axes[0, column].set_title(f"{name}\n{channels} maps of {h}×{w}", fontsize="small")
    return figure


@or_none
def as_seen_by(study: Study, index: int = 0) -> Picture:
    """A training image, and how each architecture of the study cuts it up: what its first layer sees at once.

    Raises ValueError for an index that no training image has.
    """
    import torch
    from torch import nn

    from simreg_core.architectures import architecture
    from simreg_core.lab.images import load_image_set

    task = study.profile.task
    images = load_image_set(task.images, "train", task.size, task.channels)
    _check_index(index, images, "training")
    names = [one.name for one in study.profile.studies.architectures]
    figure, axes = panels(1, len(names), 2.3, squeeze=False)
    for ax, name in zip(axes.flat, names, strict=True):
        pixels, network = images.pixels[index], architecture(name, task.size, task.channels)
        first = next(one for one in network.modules() if isinstance(one, (nn.Conv2d, nn.Linear)))
        if isinstance(first, nn.Linear):
            order = torch.randperm(pixels[0].numel(), generator=torch.Generator().manual_seed(0))
            pixels = pixels.flatten(1)[:, order].reshape(pixels.shape)
            words = "pixels in any order\n(here at random)"
        else:
            (side, _), (step, _) = first.kernel_size, first.stride
            words = f"{side}×{side} pixels at once,\n"
            words += "side by side" if step == side else f"moved on by {step}" if step > 1 else "at every place"
            _windows(ax, side, step, task.size)
        show_image(ax, pixels)
        ax.set_title(f"{name}\n{words}", fontsize="small")
    return figure


def _windows(ax: Axes, side: int, step: int, size: tuple[int, int]) -> None:
    """What a filter sees: where windows lie side by side all of them, else the first three of a row."""
    tiles = step == side
    middle = (size[0] - side) // 2
    tops = range(0, size[0], side) if tiles else (middle,)
    lefts = range(0, size[1], side) if tiles else range(middle, middle + 3 * step, step)
    for top in tops:
        for left in lefts:
            corner = (left - 0.5, top - 0.5)  # a pixel lies around its index
            ax.add_patch(mpl.patches.Rectangle(corner, side, side, fill=False, color=LOOKS[THRESHOLD].colour, lw=1.2))


def _networks(study: Study, asked: str, train: bool, names: tuple[str, ...] = NETWORKS) -> "dict[str, Any] | None":
    """The networks of seed 0 by series; None, and a word on it, where one would have to be trained unasked."""
    from simreg_core.lab.weights import is_here

    if not train and not all(is_here(study.experiment(series), study.store) for series in names):
        count = {1: "one", 2: "two"}[len(names)]
        print(f"The networks of this figure are not on this machine: {asked}(study, train=True) trains {count}.")
        return None
    return {series: study.network(series) for series in names}


def _test_images(study: Study) -> "ImageSet":
    from simreg_core.lab.images import load_image_set

    task = study.profile.task
    return load_image_set(task.images, "test", task.size, task.channels)


def _check_index(index: int, images: "ImageSet", kind: str = "test") -> None:
    if not 0 <= index < len(images):
        raise ValueError(f"index {index} is none of the {len(images)} {kind} images")


def _test_image(study: Study, networks: dict, index: int | None) -> "tuple[ImageSet, int]":
    """The test images, and the index of the one that is shown."""
    import torch

    images = _test_images(study)
    if index is None:
        with torch.no_grad():
            answers = {series: network(images.pixels[:200]).argmax(dim=1) for series, network in networks.items()}
        index = _first_right(answers, images.labels[:200])
    _check_index(index, images)
    return images, index


def _answers(networks: dict, pixels: "Tensor", images: "ImageSet", index: int) -> list[str]:
    """'none: 3 ✗' of each network, for an attacked version of a test image.  pixels: [1, c, h, w]."""
    import torch

    right = images.classes[images.labels[index].item()]
    words = []
    for series, network in networks.items():
        with torch.no_grad():
            answer = images.classes[network(pixels).argmax(dim=1).item()]
        words.append(f"{LOOKS[series].label}: {answer}" + " ✗" * (answer != right))
    return words


def _first_right(answers: dict[str, "Tensor"], labels: "Tensor") -> int:
    right = (answers[NONE] == labels) & (answers[THRESHOLD] == labels)
    if not right.any():
        raise ValueError(
            "no image among the first 200 test images is classified rightly by both networks: give an index"
        )
    return int(right.nonzero()[0])


def _attacked(study: Study, networks: dict, image: "Tensor", label: "Tensor") -> dict[str, "Tensor"]:
    """[1, c, h, w] by a title that says what was done."""
    import torch

    from simreg_core import attacks

    ends = study.profile.studies.epsilons
    noise, step = levels(ends.gaussian)[4], levels(ends.fgsm)[4]
    generator = torch.Generator().manual_seed(0)
    direction = attacks.fgsm_direction(networks[NONE], image, label)
    shown = {
        "clean": image,
        f"Gaussian noise,\nε = {noise:.2g}": attacks.gaussian_noise(
            image, noise, protocol="strict", generator=generator
        ).adversarial,
        f"FGSM on none,\nε = {step:.2g}": attacks.transferred_fgsm(
            image, direction, step, protocol="strict"
        ).adversarial,
    }
    for series, network in networks.items():
        found = attacks.boundary_attack(network, image, steps=BOUNDARY_STEPS, protocol="strict", seed=0).adversarial
        length = (found - image).square().sum().sqrt().item()
        shown[f"boundary attack on\n{LOOKS[series].label}, L2 {length:.2f}"] = found
    return shown
