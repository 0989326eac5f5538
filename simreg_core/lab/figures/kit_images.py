"""Pictures of what is studied: an image under attack, image sets, an image under each corruption."""

from typing import TYPE_CHECKING

from simreg_core.lab.figures.kit import PAGE, Axes, Picture, plt, use_style
from simreg_core.lab.recipes import levels
from simreg_core.lab.series import LOOKS, NONE, THRESHOLD
from simreg_core.lab.specs import Experiment
from simreg_core.lab.study import Study
from simreg_core.names import GROUPS

if TYPE_CHECKING:
    from torch import Tensor

NETWORKS = (NONE, THRESHOLD)
BOUNDARY_STEPS = 500
IN_A_ROW = 8


def image_sets(study: Study) -> Picture:
    """A row of training images for each set that the study's networks classify or are regularized with, in its size.

    Raises DataError where a set is missing.
    """
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
            _show(ax, images.pixels[index])
        label = f"{name}\n{' and '.join(said)}"
        row[0].set_ylabel(label, fontsize="x-small", rotation=0, ha="right", va="center")
    return figure


def corrupted(study: Study, index: int = 0, severity: int = 4) -> Picture:
    """A test image of the task, clean and under each of the 15 common corruptions.

    severity: 1 (weak) to 5.  Raises DataError where the images are missing, ValueError for another severity.
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
        _show(ax, pixels[0])
        ax.set_title(name.replace("_", " "), fontsize="x-small")
    return figure


def _show(ax: Axes, pixels: "Tensor") -> None:
    """pixels: [c, h, w] in [0, 1]."""
    ax.imshow(pixels.permute(1, 2, 0).squeeze(-1), cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=(), yticks=())


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
        _show(ax, pixels[0])
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
