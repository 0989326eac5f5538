"""Trained networks that ship: `weights/<profile>/` has one of each target, and a model card with its numbers.

    from simreg_core.lab import pretrained
    network = pretrained("quick", "S^Th")       # pixels [n, c, h, w] in [0, 1] in, logits out

`python -m simreg_core publish-weights` writes the folder from the store; the card says the data, alpha, Th, what was
measured and what the networks are not for. `measured_again` measures as the card's numbers were measured.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simreg_core.lab import recipes
from simreg_core.lab.files import StoreError, read_bytes, sealed, unsealed, write_text
from simreg_core.lab.folders import folder_of
from simreg_core.lab.image_files import count_classes
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.measuring.subject import Attacked, evaluation_images, trained_network
from simreg_core.lab.running.compute import compute
from simreg_core.lab.running.plan import plan
from simreg_core.lab.series import NEURAL, NONE, THRESHOLD
from simreg_core.lab.specs import (
    EVALUATIONS,
    Evaluation,
    Experiment,
    Profile,
    SpecError,
    Trainable,
    WhiteBoxEvaluation,
    build,
    to_train,
)
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import load_into, read_tensors, write_tensors
from simreg_core.lab.training import repeatable
from simreg_core.lab.training.assembly import build_network, load_data
from simreg_core.names import by

FILES = {NONE: "none", THRESHOLD: "threshold", NEURAL: "neural"}  # by target; as in `series.TARGETS`
SEED = 0  # of every network that ships
CARD, PAGE = "card.json", "README.md"
PUBLISH_AGAIN = "python -m simreg_core publish-weights writes it again"


def weights_folder(profile: str) -> Path:
    """Where a profile's weights lie: its name in `$SIMREG_WEIGHTS`, else in the project's folder `weights`."""
    return folder_of("SIMREG_WEIGHTS") / profile


def pretrained(profile: str, target: str) -> nn.Module:
    """A trained network that ships, in eval mode, on the CPU.

    profile: a profile whose weights were published.  target: 'none', 'S^Th' or 'S^neural'.
    The network takes pixels [n, c, h, w] in [0, 1], of the size that `model_card` says, and returns logits.
    Raises StoreError for a profile or target without weights (naming those there are), and for a changed file.
    """
    entry = _entry(profile, target)
    return _network(profile, entry)


def model_card(profile: str) -> dict[str, Any]:
    """The card of a profile's weights: for each network its specification and numbers.  Raises StoreError."""
    path = weights_folder(profile) / CARD
    if not path.is_file():
        there = sorted(found.parent.name for found in weights_folder("").glob(f"*/{CARD}"))
        known = there or "none: set SIMREG_WEIGHTS to the folder weights/ of a clone, which an installation leaves out"
        raise StoreError(f"there are no weights of profile '{profile}' in {path.parent}; there are {known}")
    return unsealed(read_bytes(path, f"model card {path}"), f"model card {path}", PUBLISH_AGAIN)


def network_of(experiment: Trainable, store: Store) -> nn.Module:
    """The trained network of an experiment, as `pretrained`: one that ships or the store has, else trained now.

    Raises SpecError for a predictor of neural responses, which is no classifier.
    """
    if not isinstance(experiment, Experiment):
        raise SpecError("a predictor of neural responses is no network that classifies images")
    if (shipped := _shipped(experiment)) is not None:
        return _network(*shipped)
    with torch.enable_grad():  # this may be called where gradients are off
        compute(plan((), store, to_train(experiment)), store, "training a network")
    return trained_network(experiment, count_classes(experiment.task.images), store, torch.device("cpu"))


def is_here(experiment: Trainable, store: Store) -> bool:
    """Whether `network_of` need not train."""
    return _shipped(experiment) is not None or store.is_trained(experiment)


def _shipped(experiment: Trainable) -> tuple[str, dict[str, Any]] | None:
    """The profile that ships the network of an experiment, and its entry in the card."""
    for path in sorted(weights_folder("").glob(f"*/{CARD}")):
        for entry in model_card(path.parent.name)["networks"]:
            if entry["key"] == experiment.key:
                return path.parent.name, entry
    return None


def measured_again(profile: str, target: str) -> list[dict[str, Any]]:
    """The card's numbers of a network, measured again from its published weights, in the card's order."""
    entry = _entry(profile, target)
    experiment = build(Experiment, entry["experiment"])
    return _numbers(experiment, _network(profile, entry), [_evaluation(one) for one in model_card(profile)["measured"]])


def publish_weights(profile: Profile, store: Store, targets: tuple[str, ...] = tuple(FILES)) -> list[Path]:
    """Write the trained networks of a store, measured, with their card.  Returns the files.

    Raises SpecError for another target, and StoreError where a network is not trained; nothing is written then.
    """
    for target in targets:
        if target not in FILES:
            raise SpecError(f"unknown target '{target}'; allowed: {', '.join(FILES)}")
    experiments = {target: recipes.experiment(profile, target, SEED) for target in targets}
    for target, one in experiments.items():
        if not store.is_trained(one):
            raise StoreError(
                f"'{target}' of profile '{profile.name}', seed {SEED}, is not trained in {store.root}: "
                f"python -m simreg_core train --profile {profile.name} --target {FILES[target]} does it"
            )
    folder, evaluations = weights_folder(profile.name), _evaluations(profile)
    tensors = {target: store.trained_tensors(one) for target, one in experiments.items()}
    networks: list[dict[str, Any]] = []
    for target, one in experiments.items():
        path = folder / f"{FILES[target]}.safetensors"
        network = load_into(build_network(one, count_classes(one.task.images)), tensors[target], path).eval()
        networks.append(
            {
                "target": target,
                "file": path.name,
                "key": one.key,
                "experiment": one.model_dump(mode="json", exclude_none=True),
                "data": _data(one),
                "numbers": _numbers(one, network, evaluations),
            }
        )
    card = {
        "profile": profile.name,
        "torch": torch.__version__,
        "measured": [one.model_dump(mode="json", exclude_none=True) for one in evaluations],
        "networks": networks,
    }
    paths = [folder / one["file"] for one in networks]
    for path, (target, one) in zip(paths, experiments.items(), strict=True):
        write_tensors(path, tensors[target], {"key": one.key})
    write_text(folder / CARD, sealed(json.dumps(card, indent=1)) + "\n")
    write_text(folder / PAGE, page(card))
    return [*paths, folder / CARD, folder / PAGE]


def _entry(profile: str, target: str) -> dict[str, Any]:
    networks = {one["target"]: one for one in model_card(profile)["networks"]}
    if target not in networks:
        raise StoreError(f"profile '{profile}' has no weights of '{target}'; it has those of {', '.join(networks)}")
    return networks[target]


def _network(profile: str, entry: dict[str, Any]) -> nn.Module:
    path, experiment = weights_folder(profile) / entry["file"], build(Experiment, entry["experiment"])
    tensors, notes = read_tensors(path)
    if notes.get("key") != entry["key"]:
        raise StoreError(f"{path} is of experiment {notes.get('key')}, its card of {entry['key']}; {PUBLISH_AGAIN}")
    return load_into(build_network(experiment, len(entry["data"]["classes"])), tensors, path).eval()


def _evaluations(profile: Profile) -> list[Evaluation]:
    """What a card says: accuracy under Gaussian noise and under PGD, strict."""
    own = profile.white_box
    walked: dict[str, Any] = {
        "epsilons": (own.epsilon,) if own.epsilon else own.epsilons,
        "images": own.images,
        "steps": own.steps,
        "restarts": own.restarts,
        "queries": own.queries,
    }
    return [recipes.noise(profile, "gaussian", "strict"), WhiteBoxEvaluation(**walked, protocol="strict")]


def _evaluation(dumped: dict[str, Any]) -> Evaluation:
    return build(EVALUATIONS[dumped["attack"]], dumped)


def _numbers(experiment: Experiment, network: nn.Module, evaluations: list[Evaluation]) -> list[dict[str, Any]]:
    """attack, epsilon, accuracy and images of each value, measured on the CPU."""
    numbers = []
    for evaluation in evaluations:
        images = evaluation_images(experiment, evaluation)
        subject = Attacked(experiment, evaluation, network, images, Store(), torch.device("cpu"))
        with repeatable():
            measured = kind_of(evaluation).measure(subject)
        numbers += [
            {"attack": evaluation.attack, "epsilon": one.epsilon, "accuracy": one.value, "images": one.attempted}
            for one in measured.values
        ]
    return numbers


def _data(experiment: Experiment) -> dict[str, Any]:
    """The image sets, in words and with their checksums."""
    data = load_data(experiment)
    sets = {"train": data.train, "regularization": data.regularization}
    return {
        "classes": list(data.train.classes),
        **{
            role: {"set": one.name, "images": len(one), "checksum": one.checksum}
            for role, one in sets.items()
            if one is not None
        },
    }


LIMITS = (
    "The networks are small, and trained on few images: they are there to be looked at, attacked and compared, and are "
    "of no use as classifiers of anything else.",
    "There is one training seed of each. A difference between two of these networks is no evidence that a target "
    "helps: the figures have several seeds and intervals, see docs/claims.md.",
    "Attacks bound robustness from above; PGD here has few steps. None of these networks is robust in the sense of "
    "adversarial training.",
    "Pixels are in [0, 1]; the network normalizes inside. Other sizes and other images were not tried.",
)


def page(card: dict[str, Any]) -> str:
    """The model card as Markdown."""
    networks = card["networks"]
    task, data, network = (networks[0]["experiment"]["task"], networks[0]["data"], networks[0]["experiment"]["network"])
    size, train = by(tuple(task["size"])), data["train"]
    head = f"""# Weights of profile {card["profile"]}

```python
from simreg_core.lab import pretrained

network = pretrained("{card["profile"]}", "{networks[-1]["target"]}")
```

It takes pixels [n, {task.get("channels", 1)}, height, width] in [0, 1], {size}, and returns logits of
{len(data["classes"])} classes: {", ".join(data["classes"])}.

{network["name"]}, width {network.get("width", 64)}; {train["images"]:,} training images of '{train["set"]}', training
seed {SEED}, torch {card["torch"]}. The numbers are accuracies on test images under the protocol `strict`; `card.json`
has the whole specifications. A test measures the numbers again, where the images are at hand.
"""
    return "\n".join(
        [head, *_networks_table(networks), "", *_numbers_table(networks), "", "## Limits", "", *_listed(), ""]
    )


def _networks_table(networks: list[dict[str, Any]]) -> list[str]:
    rows = ["| target | file | α | Th | regularization images | experiment |", "| --- | --- | --- | --- | --- | --- |"]
    for one in networks:
        spec = one["experiment"].get("regularizer") or {}
        images = one["data"].get("regularization")
        shown = f"{images['images']} of '{images['set']}'" if images else ""
        alpha, threshold = (f"{spec[name]:g}" if name in spec else "" for name in ("alpha", "threshold"))
        threshold = threshold if one["target"] == THRESHOLD else ""
        rows.append(f"| {one['target']} | `{one['file']}` | {alpha} | {threshold} | {shown} | `{one['key']}` |")
    return rows


def _numbers_table(networks: list[dict[str, Any]]) -> list[str]:
    names = {"gaussian": "Gaussian noise", "white_box": "PGD (L∞)"}
    rows = [
        f"| attack | ε | images | {' | '.join(one['target'] for one in networks)} |",
        f"| --- | --- | --- |{' --- |' * len(networks)}",
    ]
    for values in zip(*(one["numbers"] for one in networks), strict=True):
        first = values[0]
        accuracies = " | ".join(f"{one['accuracy']:.3f}" for one in values)
        rows.append(f"| {names[first['attack']]} | {first['epsilon']:g} | {first['images']} | {accuracies} |")
    return rows


def _listed() -> list[str]:
    return [f"- {line}" for line in LIMITS]
