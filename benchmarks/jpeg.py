"""What JPEG changes: the networks of a profile on the same images twice, without loss and as JPEG copies.

    python -m benchmarks.jpeg LOSSLESS COPIES [--profile cifar-small]

LOSSLESS and COPIES are folders of the data folder that hold the same images under the same names,
NAME/test/CLASS/0001.png and NAME/test/CLASS/0001.jpg. Images that a network was trained on are left out. Networks are
read from the store; those that are not trained are left out.
"""

import argparse
import json
from pathlib import Path

import torch

from simreg_core import pixel_similarity, threshold_targets
from simreg_core.lab.claims import interval_of
from simreg_core.lab.figures import figure
from simreg_core.lab.images import ImageSet, load_image_set
from simreg_core.lab.measuring.noise_and_fgsm import fgsm, noise
from simreg_core.lab.measuring.subject import Attacked, trained_network
from simreg_core.lab.recipes import three_attacks
from simreg_core.lab.series import NONE, THRESHOLD
from simreg_core.lab.specs import Experiment, FgsmEvaluation, NoiseEvaluation, Profile, Task
from simreg_core.lab.store import Store
from simreg_core.lab.study import Study
from simreg_core.lab.training.assembly import train_and_validation

FIGURE = "02_attack_curves"
MEASURE = {"gaussian": noise, "fgsm": fgsm}
LOSSLESS, COPIES = "lossless", "jpeg"


def unseen(task: Task, lossless: str, copies: str, count: int) -> tuple[ImageSet, ImageSet]:
    """The first `count` images of both folders whose copy is no training or validation image of the task.

    Raises ValueError where the folders do not hold the same labels in the same order, or too few are left.
    """
    both = [load_image_set(name, "test", task.size, task.channels) for name in (lossless, copies)]
    if not torch.equal(both[0].labels, both[1].labels):
        raise ValueError(f"'{lossless}' and '{copies}' must hold the same images in the same class folders")
    seen = {image.numpy().tobytes() for own in train_and_validation(task, 0) for image in own.images}
    left = [place for place, image in enumerate(both[1].images) if image.numpy().tobytes() not in seen]
    if len(left) < count:
        raise ValueError(f"{count} images are asked for, but only {len(left)} of '{copies}' were not trained on")
    mixed = torch.tensor(left)[torch.randperm(len(left), generator=torch.Generator().manual_seed(0))[:count]]
    return both[0].take(mixed), both[1].take(mixed)


def trained(study: Study, series: str) -> dict[int, Experiment]:
    """The networks of a curve that the store has, by seed."""
    found = [one for block in study.blocks for one in block.series.get(series, ())]
    return {one.seed: one for one in found if isinstance(one, Experiment) and study.store.is_trained(one)}


def accuracies(experiment: Experiment, images: ImageSet, profile: Profile, store: Store) -> dict[str, float]:
    """Accuracy without noise, and under Gaussian noise and transferred FGSM at the profile's largest epsilon."""
    network = trained_network(experiment, len(images.classes), store, torch.device("cpu"))
    values: dict[str, float] = {}
    for evaluation in three_attacks(profile):
        if isinstance(evaluation, NoiseEvaluation | FgsmEvaluation) and evaluation.protocol == "released":
            ends = evaluation.changed(epsilons=(evaluation.epsilons[0], evaluation.epsilons[-1]))
            subject = Attacked(experiment, ends, network, images, store, torch.device("cpu"))
            clean, attacked = MEASURE[evaluation.attack](subject).values
            values |= {"clean": clean.value, evaluation.attack: attacked.value}
    return values


def agreement(lossless: ImageSet, copies: ImageSet, threshold: float) -> dict[str, float]:
    """Whether targets made from either are the same, over all pairs: correlation of S^pixel, and of the pairs whose
    S^Th is ±1 in either the share with another target in the other."""
    above = torch.triu_indices(len(copies), len(copies), 1)
    similarities = [pixel_similarity(one.pixels) for one in (lossless, copies)]
    targets = [threshold_targets(one, threshold)[above[0], above[1]] for one in similarities]
    either = (targets[0] != 0) | (targets[1] != 0)
    return {
        "pearson": torch.corrcoef(torch.stack([one[above[0], above[1]] for one in similarities]))[0, 1].item(),
        "targets_changed": (targets[0] != targets[1])[either].double().mean().item(),
    }


def measure(profile_name: str, lossless: str, copies: str, count: int) -> dict:
    """Means over seeds with 95 % t-intervals: accuracy on each folder, the gain of S^Th over none, and their change."""
    study = figure(FIGURE).open(profile_name)
    profile = study.profile
    folders = dict(zip((LOSSLESS, COPIES), unseen(profile.task, lossless, copies, count), strict=True))
    networks = {series: trained(study, series) for series in (NONE, THRESHOLD)}
    seeds = sorted(set.intersection(*(set(own) for own in networks.values())))
    if len(seeds) < 2:
        raise ValueError(f"two seeds of {NONE} and {THRESHOLD} must be trained, the store has {len(seeds)}")
    values = {
        (series, folder): [accuracies(networks[series][seed], images, profile, study.store) for seed in seeds]
        for series in networks
        for folder, images in folders.items()
    }
    rows = []
    for what in ("clean", *MEASURE):
        of = {key: torch.tensor([one[what] for one in own]) for key, own in values.items()}
        gains = {folder: of[THRESHOLD, folder] - of[NONE, folder] for folder in folders}
        shown = {f"{series}, {folder}": own for (series, folder), own in of.items()}
        shown |= {f"gain, {folder}": own for folder, own in gains.items()}
        shown["gain, change"] = gains[COPIES] - gains[LOSSLESS]
        for name, own in shown.items():
            mean, low, high = interval_of(own.numpy())
            rows.append({"what": what, "of": name, "mean": mean, "low": low, "high": high})
    pairs = agreement(folders[LOSSLESS], folders[COPIES], profile.regularizer.threshold)
    return {"profile": profile.name, "images": count, "seeds": len(seeds), "pairs": pairs, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lossless", help="folder of the data folder")
    parser.add_argument("copies", help="folder with JPEG copies of the same images")
    parser.add_argument("--profile", default="cifar-small")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--json", type=Path, help="where the numbers go")
    asked = parser.parse_args()
    if asked.json and not asked.json.parent.is_dir():
        parser.error(f"--json must be a file in an existing folder, got {asked.json}")
    try:
        found = measure(asked.profile, asked.lossless, asked.copies, asked.images)
    except ValueError as error:
        parser.error(str(error))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["pairs"]), f"{found['seeds']} seeds, {found['images']} images", sep="\n")
    for row in found["rows"]:
        print(f"{row['what']:9} {row['of']:22} {row['mean']:7.3f} [{row['low']:.3f}, {row['high']:.3f}]")


if __name__ == "__main__":
    main()
