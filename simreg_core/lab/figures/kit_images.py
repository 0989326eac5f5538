"""One test image, clean and under each attack, with what two networks say of it."""

from typing import TYPE_CHECKING

from simreg_core.lab.figures.kit import PAGE, Picture, plt, use_style
from simreg_core.lab.recipes import levels
from simreg_core.lab.series import LOOKS, NONE, THRESHOLD
from simreg_core.lab.study import Study

if TYPE_CHECKING:
    from torch import Tensor

NETWORKS = (NONE, THRESHOLD)
BOUNDARY_STEPS = 500


def under_attack(study: Study, index: int | None = None, train: bool = False) -> Picture | None:
    """A test image, clean, under Gaussian noise, FGSM and two boundary attacks; below each what both networks answer.

    study: of a figure with the curves 'none' and 'S^Th'; their networks of seed 0 answer, see `Study.network`.
    index: of the test image; None: the first that both networks classify rightly.
    train: the networks, where they neither ship nor were trained on this machine; else that is said, and None returned.
    FGSM is made on 'none' and shown to both, a boundary attack is made on each network and shown to both. Noise and
    FGSM have 4/9 of the largest ε of the figure.
    Raises ValueError for an index that no test image has, and where there is no image that both classify rightly.
    """
    import torch  # here: to draw from records needs none

    from simreg_core.lab.images import load_image_set
    from simreg_core.lab.weights import is_here

    if not train and not all(is_here(study.experiment(series), study.store) for series in NETWORKS):
        print("The networks of this figure are not on this machine: under_attack(study, train=True) trains two.")
        return None
    task = study.profile.task
    images = load_image_set(task.images, "test", task.size, task.channels)
    networks = {series: study.network(series) for series in NETWORKS}

    @torch.no_grad()
    def answers(pixels: "Tensor") -> dict[str, "Tensor"]:
        return {series: network(pixels).argmax(dim=1) for series, network in networks.items()}

    if index is None:
        index = _first_right(answers(images.pixels[:200]), images.labels[:200])
    elif not 0 <= index < len(images):
        raise ValueError(f"index {index} is none of the {len(images)} test images")
    shown = _attacked(study, networks, images.pixels[index : index + 1], images.labels[index : index + 1])
    use_style()
    figure, axes = plt.subplots(1, len(shown), figsize=(PAGE, 2.2), layout="constrained")
    for ax, (title, pixels) in zip(axes, shown.items(), strict=True):
        ax.imshow(pixels[0].permute(1, 2, 0).squeeze(-1), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=(), yticks=())
        ax.set_title(title, fontsize="small")
        said = {series: images.classes[answer.item()] for series, answer in answers(pixels).items()}
        right = images.classes[images.labels[index].item()]
        words = [f"{LOOKS[series].label}: {one}" + (" ✗" * (one != right)) for series, one in said.items()]
        ax.set_xlabel("\n".join(words), fontsize="small")
    return figure


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
