"""Which experiments each figure needs, and the tidy table that they make."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from simreg_core.lab.folders import folder_of
from simreg_core.lab.image_files import CIFAR10_SIZE, has_cifar10_c
from simreg_core.lab.records import Record
from simreg_core.lab.running.plan import Measurement, plan
from simreg_core.lab.specs import (
    ADVERSARIAL,
    ANTOLIK_REGIONS,
    PROJECT,
    Architecture,
    BoundaryEvaluation,
    Condition,
    CorruptionEvaluation,
    CorruptionSpectraEvaluation,
    DefenceSpec,
    Evaluation,
    Experiment,
    FgsmEvaluation,
    LayerWeightsEvaluation,
    MinimumNormEvaluation,
    Network,
    NeuralExperiment,
    NoiseEvaluation,
    Profile,
    Published,
    Recorded,
    RegularizationSet,
    SimilarityEvaluation,
    SpecError,
    StepCostEvaluation,
    StudySizes,
    TransferEvaluation,
    Variant,
    WhiteBoxEvaluation,
    build,
    load_profile,
)
from simreg_core.lab.store import Store
from simreg_core.names import NOISE_NAMES, PROTOCOLS, WIDTHS

ACCEPTED_CLEAN_RATIO = 0.9  # A_0 of the paper
EPSILON_LEVELS = 10  # released code: ten equally spaced, zero included
MORE_IMAGE_COUNTS = (1000, 5000)  # that are timed beside the profile's: memory grows with N squared
NONE, PIXEL, THRESHOLD = "none", "S^pixel", "S^Th"
LOW, HIGH, DOUBLE, POSITIVE, NEGATIVE = "S_low", "S_high", "S_double", "S_+", "S_−"
SHUFFLED, ZERO, NO_LOSS = "shuffled S^Th", "all targets 0", "pairs, no loss"
NEURAL, SHUFFLED_NEURAL = "S^neural", "shuffled S^neural"
MAIN_TASK = "main task"
AUDIT, STEPS, FAILURES = "audit", "boundary steps", "failures counted"  # groups of the audit
ALL_CHANGED = "all of them"
RECORDINGS = PROJECT / "figures" / "recordings" / "records"  # of real recordings, the same for every profile
SIMULATED_V1, PUBLISHED_V1, RECOVERY = "simulated V1", "V1 predictor (published)", "recovery"
ANTOLIK, PUBLISHED_IMAGES = "mouse-v1-antolik2016", "imagenet-1k-sample-lossless"
FULL_FRAME, CROP = "full frame", "receptive-field crop"


def experiment(profile: Profile, target: str, seed: int, /, **regularizer) -> Experiment:
    """One training run of a profile.

    target: 'none', 'S^pixel', 'S^Th', 'S^neural' or 'shuffled S^neural'.
    regularizer: fields that differ from the profile's.
    Raises SpecError for an unknown target or field, or a value that cannot be.
    """
    targets = {
        NONE: None,
        PIXEL: {"target": "pixel", "alpha": profile.pixel_alpha},
        THRESHOLD: {"target": "threshold"},
        NEURAL: {"target": "neural", "neural": target_predictors(profile), "alpha": profile.neural.alpha},
        SHUFFLED_NEURAL: {
            "target": "shuffled_neural", "neural": target_predictors(profile), "alpha": profile.neural.alpha,
        },
    }  # fmt: skip
    if target not in targets:
        raise SpecError(f"unknown target '{target}'; allowed: {', '.join(targets)}")
    own = targets[target]
    spec = None if own is None else profile.regularizer.changed(**{**own, **regularizer})
    parts = {"task": profile.task, "network": profile.network, "optimization": profile.optimization}
    return build(Experiment, {**parts, "regularizer": spec, "seed": seed, "protocol": profile.protocol})


def target_predictors(profile: Profile) -> tuple[NeuralExperiment, ...]:
    """The predictors whose similarities are averaged to S^neural."""
    if profile.neural.target != "simulated":
        return (NeuralExperiment(source=Published(file=profile.neural.target)),)
    return simulated_animals(profile, profile.neural.simulation.trials)


def simulated_animals(profile: Profile, trials: int) -> tuple[NeuralExperiment, ...]:
    """A predictor for each simulated animal, which saw every image `trials` times."""
    own = profile.neural
    source = own.simulation.changed(trials=trials)
    return tuple(NeuralExperiment(source=source, predictor=own.predictor, seed=seed) for seed in range(own.animals))


def levels(upper: float) -> tuple[float, ...]:
    """Ten equally spaced strengths from 0 to `upper`."""
    return tuple(round(float(value), 6) for value in np.linspace(0, upper, EPSILON_LEVELS))


def noise(profile: Profile, kind: str, protocol: str = "released") -> NoiseEvaluation:
    """Accuracy under a noise of `attacks.NOISES`."""
    epsilons = levels(getattr(profile.studies.epsilons, kind))
    return NoiseEvaluation(attack=kind, epsilons=epsilons, protocol=protocol, images=profile.studies.test_images)


def first_free_seed(profile: Profile) -> int:
    """The first seed that no curve uses."""
    return max(profile.seeds, profile.selection.seeds, profile.main_seeds or 0)


def fgsm(profile: Profile, protocol: str = "released") -> FgsmEvaluation:
    """Accuracy under FGSM transferred from an unregularized network whose seed no curve uses."""
    return FgsmEvaluation(
        epsilons=levels(profile.studies.epsilons.fgsm),
        surrogate=experiment(profile, NONE, first_free_seed(profile)),
        protocol=protocol,
        images=profile.studies.test_images,
    )


def boundary(profile: Profile) -> BoundaryEvaluation:
    """Sizes after the released code's 50 boundary steps."""
    sizes = profile.studies
    return BoundaryEvaluation(
        images=sizes.boundary_images, repeats=sizes.boundary_repeats, directions=sizes.boundary_directions
    )


def long_boundary(profile: Profile) -> BoundaryEvaluation:
    """A boundary attack long enough for its spectrum."""
    sizes = profile.studies
    return BoundaryEvaluation(
        images=sizes.spectrum_images,
        repeats=1,
        steps=sizes.spectrum_steps,
        directions=sizes.boundary_directions,
    )


def three_attacks(profile: Profile) -> tuple[Evaluation, ...]:
    """Gaussian noise and transferred FGSM under both protocols, and the boundary attack as released."""
    both = [(noise(profile, "gaussian", protocol), fgsm(profile, protocol)) for protocol in PROTOCOLS]
    return (*(one for pair in zip(*both, strict=True) for one in pair), boundary(profile))


@dataclass(frozen=True)
class Block:
    """Curves that are measured alike.

    series: experiments by seed for each curve.  evaluations: what is measured of every experiment.
    group: what the curves have in common, where a figure has several blocks.
    recorded: measured on data that few users have: always read from the published records of real recordings, and
    computed by `python -m simreg_core recordings` alone.
    """

    series: dict[str, tuple[Experiment | NeuralExperiment, ...]]
    evaluations: tuple[Evaluation, ...]
    group: str = ""
    recorded: bool = False

    def measurements(self) -> Iterator[tuple[str, Experiment, Evaluation]]:
        """Every (series, experiment, evaluation)."""
        for label, experiments in self.series.items():
            for one in experiments:
                for evaluation in self.evaluations:
                    yield label, one, evaluation


@dataclass(frozen=True)
class Study:
    """The measurements of one figure.

    name: of the notebook.  profile: how big.  customized: whether the profile was changed by the caller.
    """

    name: str
    profile: Profile
    blocks: tuple[Block, ...]
    customized: bool = False

    @cached_property
    def store(self) -> Store:
        """The working store, with the profile's published records behind it."""
        return Store(published=published_folder(self.profile))

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the curves."""
        return tuple(dict.fromkeys(label for block in self.blocks for label in block.series))

    @property
    def folder(self) -> Path:
        """Where the figure belongs; figures of a changed profile never replace the profile's own."""
        if self.customized:
            return self.store.root / "explored" / f"{self.profile.name}-{self.profile.key}"
        return figures_folder(self.profile)

    def measurements(self) -> Iterator[Measurement]:
        """Every (experiment, evaluation) of the figure that is computed with the profile."""
        for block in self.blocks:
            if not block.recorded:
                for _, one, evaluation in block.measurements():
                    yield one, evaluation

    def run(self, without_gpu: bool = False) -> "Study":
        """Compute what is missing, after saying what that is and how long it takes.

        without_gpu: compute a profile that needs a GPU where there is none; else SpecError.
        """
        todo = plan(self.measurements(), self.store)
        if todo:
            # here: they need torch, and to plan and to draw needs none
            from simreg_core.lab.running.compute import check_profile, compute
            from simreg_core.lab.running.estimate import Costs, describe

            check_profile(self.profile, todo, self.store, without_gpu)
            costs = Costs()
            print(describe(self.name, todo, costs))
            compute(todo, self.store, self.name, costs)
        return self

    def records(self) -> list[tuple[str, str, Record]]:
        """(group, series, record) of every measurement, read once.  Raises LookupError where one is missing."""
        return list(self._records)

    @cached_property
    def _records(self) -> tuple[tuple[str, str, Record], ...]:
        found: dict[Path, Record] = {}  # two curves may share an experiment
        listed = []
        for group, label, experiment, evaluation, place in self._places():
            if place not in found:
                found[place] = self.store.read_record(place, experiment, evaluation)
            listed.append((group, label, found[place]))
        return tuple(listed)

    def _places(self) -> Iterator[tuple[str, str, Experiment | NeuralExperiment, Evaluation, Path]]:
        """(group, series, experiment, evaluation, its file) of every measurement, as `records`."""
        recorded = Store(self.store.root, published=RECORDINGS)
        for block in self.blocks:
            for label, one, evaluation in block.measurements():
                place = (recorded if block.recorded else self.store).record_place(one, evaluation)
                if place is None:
                    how = "python -m simreg_core recordings makes them" if block.recorded else "call run() first"
                    raise LookupError(f"{self.name} lacks records of '{label}'; {how}")
                yield block.group, label, one, evaluation, place

    def table(self) -> pd.DataFrame:
        """One row a measured number.

        Columns: group, series, seed, attack, protocol, metric, value, attempted, failed, epsilon, repeat,
        corruption, severity, layer, condition.
        """
        return self._table.copy(deep=False)

    @cached_property
    def _table(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "group": group,
                "series": label,
                "seed": record.experiment.seed,
                "attack": record.evaluation.attack,
                "protocol": record.evaluation.protocol,
                **dict(value),
            }
            for group, label, record in self._records
            for value in record.values
        )

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """An array of the records (such as 'power' or 'layer_weights') for each series, [seeds, ...]."""
        collected: dict[str, list] = {}
        for _, label, record in self._records:
            if name in record.arrays:  # a network that no image could fool has no spectrum
                collected.setdefault(label, []).append(record.arrays[name])
        return {label: np.array(values) for label, values in collected.items()}

    def digest(self) -> str:
        """Changes when the file of any record does.  Raises LookupError where one is missing."""
        found = hashlib.sha256()
        for *_, place in self._places():
            found.update(place.read_bytes())
        return found.hexdigest()[:16]


def figures_folder(profile: Profile) -> Path:
    """Where a profile's figures go: NAME in `$SIMREG_FIGURES`, else in the project's folder `figures`."""
    return folder_of("SIMREG_FIGURES") / profile.name


def published_folder(profile: Profile) -> Path:
    """The committed records of a profile: NAME/records in `$SIMREG_RECORDS`, else in the project's folder `figures`."""
    return folder_of("SIMREG_RECORDS") / profile.name / "records"


def pixel_vs_neural(profile: Profile) -> tuple[Block, ...]:
    """Neural against pixel similarity: simulated V1 under every condition, its recovery, and the real recordings."""
    own = profile.neural
    sizes = {"images": own.images, "resamples": own.resamples, "permutations": own.permutations}
    animals = simulated_animals(profile, own.simulation.trials)
    simulated = SimilarityEvaluation(conditions=simulated_conditions(own.simulation.size), **sizes)
    few = SimilarityEvaluation(conditions=(_plain("predicted"),), images=own.images, resamples=10, permutations=0)
    recovery = {f"{trials} trials": simulated_animals(profile, trials) for trials in own.trial_counts}
    return (
        Block({SIMULATED_V1: animals}, (simulated,), "simulated"),
        Block(recovery, (few,), RECOVERY),
        *recorded_blocks(),
    )


def recorded_blocks() -> tuple[Block, ...]:
    """Real recordings of mouse V1, and the published predictor on 1,000 ImageNet images."""
    regions = {
        f"mouse V1, region {region}": (NeuralExperiment(source=Recorded(recording=f"{ANTOLIK}/{region}")),)
        for region in ANTOLIK_REGIONS
    }
    predictor = {PUBLISHED_V1: (NeuralExperiment(source=Published()),)}
    of_images = SimilarityEvaluation(image_set=PUBLISHED_IMAGES, conditions=published_conditions())
    return (
        Block(predictor, (of_images,), "recorded", recorded=True),
        Block(regions, (SimilarityEvaluation(conditions=recorded_conditions()),), "recorded", recorded=True),
    )


def _plain(responses: str, name: str = FULL_FRAME, **changes) -> Condition:
    return Condition(name=name, responses=responses, **changes)


def simulated_conditions(size: tuple[int, int]) -> tuple[Condition, ...]:
    """Of a simulation: as measured, what processing changes, and which populations would give more."""
    h, w = size
    return (
        _plain("predicted"),
        _plain("predicted", CROP, crop=(h // 6, h - h // 6, w // 6, w - w // 6)),
        _plain("predicted", "quarter size", size=(h // 4, w // 4)),
        _plain("predicted", "own mean subtracted", subtract="own_mean"),
        _plain("predicted", "weighted by w v", weighted=True),
        _plain("trial_mean", "trial average"),
        _plain("trial_mean", "trial average of 8 animals", recordings=8),
        _plain("noise_free", "without noise"),
        _plain("noise_free", "without noise, 8 animals", recordings=8),
        _plain("simple", "simple cells"),
        _plain("complex", "complex cells"),
        _plain("linear", "linear cells"),
        _plain("linear", "linear cells, own mean subtracted", subtract="own_mean"),
        _plain("luminance", "luminance cells"),
    )


def recorded_conditions() -> tuple[Condition, ...]:
    """Of a recording without a predictor, images of 31x31."""
    return (
        _plain("trial_mean"),
        _plain("trial_mean", CROP, crop=(8, 23, 8, 23)),
        _plain("trial_mean", "quarter size", size=(8, 8)),
        _plain("trial_mean", "own mean subtracted", subtract="own_mean"),
        _plain("trial_mean", "weighted by w", weighted=True),
        _plain("trial_mean", "25 neurons", neurons=25),
    )


def published_conditions() -> tuple[Condition, ...]:
    """Of the published predictor, images of 36x64; its neurons look at rows 6 to 30, columns 10 to 50."""
    crop = (6, 30, 10, 50)
    return (
        _plain("predicted"),
        _plain("predicted", CROP, crop=crop),
        _plain("predicted", "quarter size", size=(9, 16)),
        _plain("predicted", "own mean subtracted", subtract="own_mean"),
        _plain("predicted", "crop, own mean subtracted", crop=crop, subtract="own_mean"),
        _plain("predicted", "25 neurons", neurons=25),
        _plain("predicted", "250 neurons", neurons=250),
        _plain("predicted", "2,500 neurons", neurons=2500),
    )


def attack_curves(profile: Profile) -> tuple[Block, ...]:
    """None, S^pixel, S^Th and S^neural under Gaussian noise, FGSM (both protocols) and the boundary attack."""
    neural = {target: _seeds(profile, target, profile.seeds) for target in (NEURAL, SHUFFLED_NEURAL)}
    more = {target: _seeds(profile, target, profile.main_seeds or profile.seeds) for target in (NONE, THRESHOLD)}
    return (Block({**_targets(profile, profile.seeds), **more, **neural}, three_attacks(profile)),)


def selection(profile: Profile, target: str = THRESHOLD) -> tuple[Block, ...]:
    """A target over the (alpha, Th) grid and none, without and with the largest attack, on VALIDATION images.

    target: one that has no threshold takes the profile's alone.
    """
    grid = profile.selection
    series = {NONE: _seeds(profile, NONE, grid.seeds)}
    for alpha in grid.alphas:
        for threshold in grid.thresholds if target == THRESHOLD else (profile.regularizer.threshold,):
            label = f"α = {alpha:g}, Th = {threshold:g}"
            series[label] = _seeds(profile, target, grid.seeds, alpha=alpha, threshold=threshold)
    attacks = [*(noise(profile, kind) for kind in NOISE_NAMES), fgsm(profile)]
    ends = [attack.changed(split="validation", images=None, epsilons=(0.0, attack.epsilons[-1])) for attack in attacks]
    return (Block(series, tuple(ends)),)


def regularization_sets(profile: Profile) -> tuple[Block, ...]:
    """None, and S^Th with each regularization set, under the three attacks."""
    series = {NONE: _seeds(profile, NONE, profile.seeds), **_sets(profile, profile.studies.regularization_sets)}
    return (Block(series, three_attacks(profile)),)


def common_corruptions(profile: Profile) -> tuple[Block, ...]:
    """None, and S^Th with each regularization set, under the 15 common corruptions; their own spectra."""
    series = {NONE: _seeds(profile, NONE, profile.seeds), **_sets(profile, profile.studies.regularization_sets)}
    is_theirs = profile.task.images == "cifar10" and profile.task.size == CIFAR10_SIZE
    source = "files" if is_theirs and has_cifar10_c() else "generated"
    what = {"source": source, "images": profile.studies.corruption_images}
    first = {"corruptions": _seeds(profile, NONE, 1)}
    return (
        Block(series, (CorruptionEvaluation(**what),)),
        Block(first, (CorruptionSpectraEvaluation(**what),), "spectra"),
    )


def frequency_spectra(profile: Profile) -> tuple[Block, ...]:
    """Spectra of long boundary attacks on none and S^Th (S^pixel is not in the paper's figure)."""
    seeds = min(profile.seeds, profile.studies.spectrum_seeds)
    series = {target: _seeds(profile, target, seeds) for target in (NONE, THRESHOLD)}
    return (Block(series, (long_boundary(profile),)),)


def batch_size_study(profile: Profile) -> tuple[Block, ...]:
    """S^Th with k pairs a step, and none, under the three attacks; what a step costs."""
    series = {NONE: _seeds(profile, NONE, profile.seeds)}
    for k in profile.studies.pairs_per_step:
        series[f"k = {k}"] = _seeds(profile, THRESHOLD, profile.seeds, pairs_per_step=k)
    return (Block(series, three_attacks(profile)), *step_costs(profile))


def image_count_study(profile: Profile) -> tuple[Block, ...]:
    """S^Th with N regularization images, and none, under the three attacks."""
    series = {NONE: _seeds(profile, NONE, profile.seeds)}
    for count in sorted(profile.studies.image_counts):
        series[f"N = {count}"] = _seeds(profile, THRESHOLD, profile.seeds, count=count)
    return (Block(series, three_attacks(profile)),)


def colour(profile: Profile) -> tuple[Block, ...]:
    """None, and S^Th with colour regularization sets, on the task in colour, under the three attacks."""
    coloured = base_of(profile, colour=True)
    series = {NONE: _seeds(coloured, NONE, profile.seeds), **_sets(coloured, profile.studies.colour_sets)}
    return (Block(series, three_attacks(coloured)),)


def layer_weights(profile: Profile) -> tuple[Block, ...]:
    """gamma of S^Th with each regularization set, epoch by epoch."""
    return (Block(_sets(profile, profile.studies.regularization_sets), (LayerWeightsEvaluation(),)),)


def target_components(profile: Profile) -> tuple[Block, ...]:
    """Parts of S^Th, and three controls, under the three attacks."""
    own = profile.studies.component_set.fields()
    ways = {
        PIXEL: {"target": "pixel", "alpha": profile.pixel_alpha},
        THRESHOLD: {},
        LOW: {"pairs": "low"},
        HIGH: {"pairs": "high"},
        POSITIVE: {"pairs": "positive"},
        NEGATIVE: {"pairs": "negative"},
        DOUBLE: {"pairs": "double", "low_threshold": profile.studies.low_threshold},
        SHUFFLED: {"target": "shuffled"},
        ZERO: {"target": "zero"},
        NO_LOSS: {"alpha": 0.0},
    }
    series = {NONE: _seeds(profile, NONE, profile.seeds)}
    for label, way in ways.items():
        series[label] = _seeds(profile, THRESHOLD, profile.seeds, **{**own, **way})
    return (Block(series, three_attacks(profile)),)


def other_tasks_and_depths(profile: Profile) -> tuple[Block, ...]:
    """None, S^pixel and S^Th on the main task and on others, under all noises, FGSM and the boundary attack."""
    tasks = {MAIN_TASK: profile, **{one.name: of_variant(profile, one) for one in profile.studies.variants}}
    return tuple(
        Block(
            _targets(one, one.seeds),
            (*(noise(one, kind, protocol) for kind in NOISE_NAMES for protocol in PROTOCOLS), *three_attacks(one)[2:]),
            group,
        )
        for group, one in tasks.items()
    )


def of_variant(profile: Profile, variant: Variant) -> Profile:
    """The profile with another task, network or schedule."""
    own = variant.regularization_set.fields()
    parts = {"network": variant.network, "optimization": variant.optimization, "pixel_alpha": variant.pixel_alpha}
    return profile.changed(
        task=variant.task,
        regularizer=profile.regularizer.changed(**own),
        studies=profile.studies.changed(epsilons=variant.epsilons),
        **{name: value for name, value in parts.items() if value is not None},
    )


def other_architectures(profile: Profile) -> tuple[Block, ...]:
    """None and S^Th on networks that the regularizer was not made for, under the three attacks."""
    bases = {one.name: of_architecture(profile, one) for one in profile.studies.architectures}
    return tuple(
        Block({target: _seeds(one, target, one.seeds) for target in (NONE, THRESHOLD)}, three_attacks(one), name)
        for name, one in bases.items()
    )


def of_architecture(profile: Profile, own: Architecture) -> Profile:
    """The profile with another architecture.

    Regularization images have the task's size: a transformer and an MLP take no other.
    """
    width = WIDTHS[own.name] if own.width is None else own.width
    network = Network(name=own.name, width=width, shift=profile.network.shift, gain=profile.network.gain)
    return profile.changed(
        network=network,
        regularizer=profile.regularizer.changed(size=None, **_given(alpha=own.alpha)),
        optimization=profile.optimization.changed(**_given(learning_rate=own.learning_rate)),
    )


def base_of(
    profile: Profile,
    images: str | None = None,
    colour: bool = False,
    variant: str | None = None,
    architecture: str | None = None,
) -> Profile:
    """The profile of another corner of its studies: a regularization set, the task in colour, a variant, an
    architecture.

    Raises SpecError for a set, variant or architecture that the profile does not have.
    """
    if architecture is not None:
        known = {one.name: one for one in profile.studies.architectures}
        if architecture not in known:
            raise SpecError(f"unknown architecture '{architecture}'; allowed: {', '.join(known)}")
        profile = of_architecture(profile, known[architecture])
    if variant is not None:
        known = {one.name: one for one in profile.studies.variants}
        if variant not in known:
            raise SpecError(f"unknown variant '{variant}'; allowed: {', '.join(known)}")
        profile = of_variant(profile, known[variant])
    if colour:
        profile = profile.changed(task=profile.task.changed(channels=3))
    if images is not None:
        known = {
            one.images: one for one in (profile.studies.colour_sets if colour else profile.studies.regularization_sets)
        }
        if images not in known:
            raise SpecError(f"unknown regularization set '{images}'; allowed: {', '.join(known)}")
        profile = profile.changed(regularizer=profile.regularizer.changed(**known[images].fields()))
    return profile


def audit_changes(profile: Profile) -> dict[str, dict]:
    """What each property of the released code is changed to: fields of the regularizer; 'strict' of the experiment."""
    alpha, augment = profile.regularizer.alpha, profile.task.augment
    fresh = {"augment_each": "crop-flip" if augment == "crop-flip" else "flip", "augment_once": "none"}
    changes = {
        "loss as printed (α / 4)": {"alpha": alpha / 4},
        "ε = 0.01 in the loss": {"eps": 1e-2},
        "pairs with statistics of their own": {"statistics": "separate"},
        "pairs with frozen statistics": {"statistics": "frozen"},
        "running mean follows in validation": {"mean_in_validation": True},
        "fresh augmentation": fresh,
        "validation images kept out": {"strict": True},
        "own mean subtracted": {"subtract": "own_mean"},
    }
    # the loss's scale is a choice of alpha; the mean of the images is the method itself; both stay as they are
    together = {"statistics": "separate", **fresh, "strict": True, "eps": 1e-2}
    return {**changes, ALL_CHANGED: together}


def protocol_audit(profile: Profile) -> tuple[Block, ...]:
    """S^Th with one property of the released code changed at a time; boundary attacks against their steps."""
    evaluations = (noise(profile, "gaussian"), fgsm(profile))
    series = {target: _seeds(profile, target, profile.seeds) for target in (NONE, THRESHOLD)}
    audited = {**series, NO_LOSS: _seeds(profile, THRESHOLD, profile.seeds, alpha=0.0)}
    for label, change in audit_changes(profile).items():
        fields = {name: value for name, value in change.items() if name != "strict"}
        changed = _seeds(profile, THRESHOLD, profile.seeds, **fields)
        audited[label] = tuple(one.changed(protocol="strict") for one in changed) if "strict" in change else changed
    strict = (noise(profile, "gaussian", "strict"), fgsm(profile, "strict"))
    return (
        Block(audited, evaluations, AUDIT),
        Block(series, strict, "strict clamp"),
        *_boundary_audit(profile),
    )


def _boundary_audit(profile: Profile) -> tuple[Block, ...]:
    """None and S^Th: sizes against steps, minimal ones as reference, and failures counted as infinitely far."""
    seeds = min(profile.seeds, profile.studies.spectrum_seeds)
    series = {target: _seeds(profile, target, seeds) for target in (NONE, THRESHOLD)}
    attack = long_boundary(profile)
    by_steps = [
        Block(series, (attack.changed(steps=steps),), f"{STEPS}: {steps}") for steps in profile.white_box.boundary_steps
    ]
    same = {"images": attack.images, "away_from": "prediction"}
    references = [
        MinimumNormEvaluation(method="fast", **same),
        MinimumNormEvaluation(method="deepfool", steps=50, **same),
    ]
    if profile.white_box.carlini_wagner_steps is not None:
        steps = profile.white_box.carlini_wagner_steps
        references.append(MinimumNormEvaluation(method="carlini_wagner", steps=steps, **same))
    counted = boundary(profile).changed(protocol="strict")
    return (
        *by_steps,
        Block(series, tuple(references), "minimal"),
        Block(series, (boundary(profile),), "failures skipped"),
        Block(series, (counted,), FAILURES),
    )


def defended(profile: Profile) -> dict[str, tuple[Experiment, ...]]:
    """None, S^Th, and the profile's defences, by seed."""
    none = _seeds(profile, NONE, profile.seeds)
    series = {NONE: none, THRESHOLD: _seeds(profile, THRESHOLD, profile.seeds)}
    for label, spec in profile.defences.items():
        if isinstance(spec, DefenceSpec):
            change = {"adversarial": spec}
        else:
            change = {"network": profile.network.changed(front_end=spec)}
        series[label] = tuple(one.changed(**change) for one in none)
    return series


def white_box_attacks(profile: Profile) -> tuple[Block, ...]:
    """PGD, AutoAttack and Square on none, S^Th and other defences; minimum-norm, query and transferred attacks.

    The latter, which are slow, on none, S^Th and adversarial training.
    """
    own = profile.white_box
    few = {"images": own.minimum_images, "protocol": "strict"}
    walked = {"images": own.images, "steps": own.steps, "restarts": own.restarts, "protocol": "strict"}
    together = {name: getattr(own, name) for name in ("queries", "autoattack_images", "autoattack_budget")}
    fast = (
        WhiteBoxEvaluation(epsilons=own.epsilons, epsilon=own.epsilon, **together, **walked),
        WhiteBoxEvaluation(norm="l2", epsilons=own.l2_epsilons, **walked),
        noise(profile, "gaussian", "strict"),
    )
    slow = (
        *(MinimumNormEvaluation(norm=norm, steps=own.minimum_steps, **few) for norm in ("linf", "l2", "l0")),
        MinimumNormEvaluation(method="hop_skip_jump", steps=own.query_steps, **few),
        *(_transfer(profile, target) for target in (NONE, THRESHOLD)),
    )
    series = defended(profile)
    compared = {name: series[name] for name in (NONE, THRESHOLD, ADVERSARIAL)}
    return Block(series, fast), Block(compared, slow)


def _transfer(profile: Profile, target: str) -> TransferEvaluation:
    """From networks with the seeds after those of all curves; from S^Th, an attacker who knows of the defence."""
    first = first_free_seed(profile)
    seeds = range(first, first + profile.white_box.surrogates)
    return TransferEvaluation(
        name=target,
        epsilons=levels(profile.studies.epsilons.fgsm)[::3],
        surrogates=tuple(experiment(profile, target, seed) for seed in seeds),
        images=profile.white_box.images,
        protocol="strict",
        steps=profile.white_box.transfer_steps,
    )


def step_costs(profile: Profile) -> tuple[Block, ...]:
    """Time and memory of a training step against k and N; nothing is trained."""
    own, sizes = profile.regularizer, profile.studies
    evaluation = StepCostEvaluation(
        pairs_per_step=sorted(sizes.pairs_per_step),
        image_counts=sorted({*sizes.image_counts, *MORE_IMAGE_COUNTS}),
        image_pairs=own.pairs_per_step,
        size=own.size,
    )
    return (Block({NONE: _seeds(profile, NONE, 1)}, (evaluation,), "step cost"),)


STUDIES: dict[str, Callable[[Profile], tuple[Block, ...]]] = {
    "01_pixel_vs_neural_similarity": pixel_vs_neural,
    "02_attack_curves": attack_curves,
    "03_hyperparameter_selection": selection,
    "04_regularization_sets": regularization_sets,
    "05_common_corruptions": common_corruptions,
    "06_frequency_spectra": frequency_spectra,
    "07_batch_size_study": batch_size_study,
    "08_image_count_study": image_count_study,
    "09_colour": colour,
    "10_layer_weights": layer_weights,
    "11_target_components": target_components,
    "12_other_tasks_and_depths": other_tasks_and_depths,
    "13_protocol_audit": protocol_audit,
    "14_white_box": white_box_attacks,
    "15_architectures": other_architectures,
    "16_cost": step_costs,
}


def study(name: str, profile: Profile) -> Study:
    """The study of a notebook.  Raises SpecError for an unknown one."""
    if name not in STUDIES:
        raise SpecError(f"unknown study '{name}'; allowed: {', '.join(STUDIES)}")
    return Study(name, profile, STUDIES[name](profile))


def open_study(name: str, profile: str, protocol: str = "released", **changes) -> Study:
    """The study of a notebook.

    name: as in STUDIES.  profile: a profile's name, or the path of a YAML file.
    protocol: what the caller's figure shows; anything but 'released' is a customized figure.
    changes: as in `adapt`; None keeps the profile's value.
    Raises SpecError for an unknown study or profile, or a value that cannot be.
    """
    original = load_profile(profile)
    adapted = adapt(original, **changes)
    return replace(study(name, adapted), customized=adapted != original or protocol != "released")


def adapt(
    profile: Profile,
    alpha: float | None = None,
    threshold: float | None = None,
    seeds: int | None = None,
    gaussian_epsilon: float | None = None,
    fgsm_epsilon: float | None = None,
    alphas: Sequence[float] | None = None,
    thresholds: Sequence[float] | None = None,
    selection_seeds: int | None = None,
) -> Profile:
    """A profile with some of its numbers changed; None keeps the profile's value.  Raises SpecError.

    alpha, threshold: also of every regularization set, component set, variant and architecture with a value of its own.
    seeds: also of the spectra, where the profile has fewer of them.
    """
    regularizer = _given(alpha=alpha, threshold=threshold)
    epsilons = profile.studies.epsilons.changed(**_given(gaussian=gaussian_epsilon, fgsm=fgsm_epsilon))
    spectrum_seeds = max(profile.studies.spectrum_seeds, seeds or 0)
    return profile.changed(
        regularizer=profile.regularizer.changed(**regularizer),
        studies=profile.studies.changed(
            epsilons=epsilons, spectrum_seeds=spectrum_seeds, **_own_values_replaced(profile.studies, regularizer)
        ),
        selection=profile.selection.changed(**_given(alphas=alphas, thresholds=thresholds, seeds=selection_seeds)),
        neural=profile.neural.changed(**_given(alpha=alpha)),
        **_given(
            seeds=seeds, main_seeds=None if seeds is None else max(seeds, profile.main_seeds or 0), pixel_alpha=alpha
        ),
    )


def _own_values_replaced(sizes: StudySizes, values: dict) -> dict:
    """The sets, variants and architectures of a profile, with `values` where they have values of their own."""

    def of(one: RegularizationSet) -> RegularizationSet:
        return one.changed(**{name: value for name, value in values.items() if getattr(one, name) is not None})

    def of_architecture(one: Architecture) -> Architecture:
        return one.changed(**_given(alpha=values.get("alpha") if one.alpha is not None else None))

    def of_variant(one: Variant) -> Variant:
        pixel = {"pixel_alpha": values["alpha"]} if "alpha" in values and one.pixel_alpha is not None else {}
        return one.changed(regularization_set=of(one.regularization_set), **pixel)

    return {
        "regularization_sets": tuple(map(of, sizes.regularization_sets)),
        "component_set": of(sizes.component_set),
        "colour_sets": tuple(map(of, sizes.colour_sets)),
        "variants": tuple(map(of_variant, sizes.variants)),
        "architectures": tuple(map(of_architecture, sizes.architectures)),
    }


def selection_ratios(table: pd.DataFrame, attack: str = "gaussian") -> pd.DataFrame:
    """The paper's criterion (v2 Fig. 4) on a table of `selection`, for one attack.

    Returns one row for each regularized series: clean = R_0/U_0 and robust = R_D/U_D, ratios of mean accuracies
    to the unregularized network's at no noise and at the largest, accepted = clean >= 0.9 and robust >= 1, and
    chosen, true for the accepted row with the largest `robust` (for none where none is accepted).
    """
    own = table[table["attack"] == attack]
    means = own.groupby(["series", "epsilon"], sort=False)["value"].mean().unstack()
    means = means[[means.columns.min(), means.columns.max()]].set_axis(["clean", "robust"], axis=1)
    ratios = (means / means.loc[NONE]).drop(NONE)
    ratios["accepted"] = (ratios["clean"] >= ACCEPTED_CLEAN_RATIO) & (ratios["robust"] >= 1)
    best = ratios.loc[ratios["accepted"], "robust"].max()
    ratios["chosen"] = ratios["accepted"] & (ratios["robust"] == best)
    return ratios.reset_index()


def chosen_pair(table: pd.DataFrame, attack: str = "gaussian") -> tuple[float, float] | None:
    """(alpha, Th) that the criterion of `selection_ratios` chooses; None where it accepts none."""
    ratios = selection_ratios(table, attack)
    chosen = ratios.loc[ratios["chosen"], "series"]
    return pair_of(chosen.iloc[0]) if len(chosen) else None


def pair_of(series: str) -> tuple[float, float]:
    """(alpha, Th) of a series of `selection`."""
    alpha, threshold = (float(part.split("=")[1]) for part in series.split(","))
    return alpha, threshold


def rank_correlations(table: pd.DataFrame, reference: str = "gaussian") -> pd.DataFrame:
    """Do other attacks rank the (alpha, Th) pairs as the reference attack does?

    table: of `selection`.  Returns attack, seed and correlation: Spearman's between the pairs' accuracies under the
    largest attack, one for each training seed.
    """
    largest = table[table["epsilon"] > 0]
    accuracy = largest[largest["series"] != NONE].pivot_table(
        index="series", columns=["attack", "seed"], values="value"
    )
    return pd.DataFrame(
        {
            "attack": attack,
            "seed": seed,
            "correlation": accuracy[attack][seed].corr(accuracy[reference][seed], method="spearman"),
        }
        for attack in accuracy.columns.unique("attack")
        if attack != reference
        for seed in accuracy[attack].columns
    )


def _given(**values) -> dict:
    return {name: value for name, value in values.items() if value is not None}


def _targets(profile: Profile, seeds: int) -> dict[str, tuple[Experiment, ...]]:
    return {target: _seeds(profile, target, seeds) for target in (NONE, PIXEL, THRESHOLD)}


def _sets(profile: Profile, sets: tuple[RegularizationSet, ...]) -> dict[str, tuple[Experiment, ...]]:
    return {one.images: _seeds(profile, THRESHOLD, profile.seeds, **one.fields()) for one in sets}


def _seeds(profile: Profile, target: str, seeds: int, /, **regularizer) -> tuple[Experiment, ...]:
    return tuple(experiment(profile, target, seed, **regularizer) for seed in range(seeds))
