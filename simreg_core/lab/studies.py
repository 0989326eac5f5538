"""Which experiments each figure needs, and the tidy table that they make."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from simreg_core.lab.experiment import (
    PROJECT,
    BoundaryEvaluation,
    Evaluation,
    Experiment,
    FgsmEvaluation,
    NoiseEvaluation,
    Profile,
    SpecError,
    build,
    load_profile,
)
from simreg_core.lab.progress import duration
from simreg_core.lab.runner import (
    Costs,
    Measurement,
    Plan,
    compute,
    default_device,
    estimate_seconds,
    plan,
    seconds_per_step,
)
from simreg_core.lab.store import Record, Store, device_name

ACCEPTED_CLEAN_RATIO = 0.9  # A_0 of the paper
EPSILON_LEVELS = 10  # released code: ten equally spaced, zero included
NONE, PIXEL, THRESHOLD = "none", "S^pixel", "S^Th"


def experiment(profile: Profile, target: str, seed: int, **regularizer) -> Experiment:
    """One training run of a profile.

    target: 'none', 'S^pixel' or 'S^Th'.  regularizer: fields that differ from the profile's.
    Raises SpecError for an unknown target or field, or a value that cannot be.
    """
    if target not in (NONE, PIXEL, THRESHOLD):
        raise SpecError(f"unknown target '{target}'; allowed: {NONE}, {PIXEL}, {THRESHOLD}")
    spec = None
    if target != NONE:
        own = {"target": "pixel", "alpha": profile.pixel_alpha} if target == PIXEL else {"target": "threshold"}
        spec = profile.regularizer.changed(**{**own, **regularizer})
    parts = {"task": profile.task, "network": profile.network, "optimization": profile.optimization}
    return build(Experiment, {**parts, "regularizer": spec, "seed": seed, "protocol": profile.protocol})


def levels(upper: float) -> tuple[float, ...]:
    """Ten equally spaced strengths from 0 to `upper`."""
    return tuple(round(float(value), 6) for value in np.linspace(0, upper, EPSILON_LEVELS))


def gaussian(profile: Profile, protocol: str) -> NoiseEvaluation:
    """Accuracy under Gaussian noise."""
    return NoiseEvaluation(attack="gaussian", epsilons=levels(profile.studies.gaussian_epsilon), protocol=protocol)


def fgsm(profile: Profile, protocol: str) -> FgsmEvaluation:
    """Accuracy under FGSM transferred from an unregularized network whose seed no curve uses."""
    surrogate = experiment(profile, NONE, seed=profile.seeds)
    return FgsmEvaluation(epsilons=levels(profile.studies.fgsm_epsilon), surrogate=surrogate, protocol=protocol)


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


@dataclass(frozen=True)
class Study:
    """The measurements of one figure.

    name: of the notebook.  profile: how big.  series: experiments by seed for each curve.
    evaluations: what is measured of every experiment.  customized: whether the profile was changed by the caller.
    """

    name: str
    profile: Profile
    series: dict[str, tuple[Experiment, ...]]
    evaluations: tuple[Evaluation, ...]
    customized: bool = False

    @cached_property
    def store(self) -> Store:
        """The working store, with the profile's published records behind it."""
        return Store(published=published_folder(self.profile))

    @property
    def folder(self) -> Path:
        """Where the figure belongs; figures of a changed profile never replace the profile's own."""
        if self.customized:
            return self.store.root / "explored" / f"{self.profile.name}-{self.profile.key}"
        return figures_folder(self.profile)

    def measurements(self) -> Iterator[Measurement]:
        """Every (experiment, evaluation) of the figure."""
        for experiments in self.series.values():
            for one in experiments:
                for evaluation in self.evaluations:
                    yield one, evaluation

    def run(self) -> "Study":
        """Compute what is missing, after saying what that is and how long it takes."""
        todo = plan(self.measurements(), self.store)
        if todo:
            print(describe(self.name, todo))
            compute(todo, self.store, self.name)
        return self

    def records(self) -> list[tuple[str, Record]]:
        """(series, record) of every measurement.  Raises LookupError where one is missing."""
        found = []
        for label, experiments in self.series.items():
            for one in experiments:
                for evaluation in self.evaluations:
                    record = self.store.record(one, evaluation)
                    if record is None:
                        raise LookupError(f"{self.name} lacks records; call run() first")
                    found.append((label, record))
        return found

    def table(self) -> pd.DataFrame:
        """One row a measured number.

        Columns: series, seed, attack, protocol, metric, value, attempted, failed, epsilon, repeat.
        """
        return pd.DataFrame(
            {
                "series": label,
                "seed": record.experiment.seed,
                "attack": record.evaluation.attack,
                "protocol": record.evaluation.protocol,
                **value.model_dump(),
            }
            for label, record in self.records()
            for value in record.values
        )

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """An array of the records ('power', 'radius' or 'cumulative') for each series, [seeds, ...]."""
        collected: dict[str, list] = {}
        for label, record in self.records():
            if name in record.arrays:  # a network that no image could fool has none
                collected.setdefault(label, []).append(record.arrays[name])
        return {label: np.array(values) for label, values in collected.items()}

    def digest(self) -> str:
        """Changes when any record of the figure does."""
        text = "".join(record.model_dump_json() for _, record in self.records())
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def figures_folder(profile: Profile) -> Path:
    """Where a profile's figures go: figures/NAME in the project's folder, or in `$SIMREG_FIGURES`."""
    return Path(os.environ.get("SIMREG_FIGURES") or PROJECT / "figures") / profile.name


def published_folder(profile: Profile) -> Path:
    """The committed records of a profile."""
    return figures_folder(profile) / "records"


def describe(name: str, todo: Plan, costs: Costs | None = None) -> str:
    """What a plan computes and how long it takes on this machine, in one line."""
    return (
        f"{name}: {len(todo.trainings)} networks to train and {len(todo.measurements)} attacks to run, "
        f"about {duration(estimate_seconds(todo, costs))}"
    )


def attack_curves(profile: Profile) -> Study:
    """None, S^pixel and S^Th under Gaussian noise, transferred FGSM (both protocols) and the boundary attack."""
    evaluations = [attack(profile, protocol) for attack in (gaussian, fgsm) for protocol in ("released", "strict")]
    return Study("02_attack_curves", profile, _targets(profile, profile.seeds), (*evaluations, boundary(profile)))


def frequency_spectra(profile: Profile) -> Study:
    """Spectra of long boundary attacks on none, S^pixel and S^Th."""
    seeds = min(profile.seeds, profile.studies.spectrum_seeds)
    return Study("06_frequency_spectra", profile, _targets(profile, seeds), (long_boundary(profile),))


def batch_size_study(profile: Profile) -> Study:
    """S^Th with k pairs a step, and none, under the three attacks."""
    series = {NONE: _seeds(profile, NONE, profile.seeds)}
    for k in profile.studies.pairs_per_step:
        series[f"k = {k}"] = _seeds(profile, THRESHOLD, profile.seeds, pairs_per_step=k)
    evaluations = (gaussian(profile, "released"), fgsm(profile, "released"), boundary(profile))
    return Study("07_batch_size_study", profile, series, evaluations)


def selection(profile: Profile) -> Study:
    """S^Th over the (alpha, Th) grid and none, under Gaussian noise on VALIDATION images."""
    grid = profile.selection
    series = {NONE: _seeds(profile, NONE, grid.seeds)}
    for alpha in grid.alphas:
        for threshold in grid.thresholds:
            one = _seeds(profile, THRESHOLD, grid.seeds, alpha=alpha, threshold=threshold)
            series[f"α = {alpha:g}, Th = {threshold:g}"] = one
    noise = gaussian(profile, "strict").changed(split="validation")
    return Study("03_hyperparameter_selection", profile, series, (noise,))


def selection_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's criterion (v2 Fig. 4) on a table of `selection`.

    Returns one row for each regularized series: clean = R_0/U_0 and robust = R_D/U_D, ratios of mean accuracies
    to the unregularized network's at no noise and at the largest, accepted = clean >= 0.9 and robust >= 1, and
    chosen, true for the accepted row with the largest `robust` (for none where none is accepted).
    """
    means = table.groupby(["series", "epsilon"], sort=False)["value"].mean().unstack()
    means = means[[means.columns.min(), means.columns.max()]].set_axis(["clean", "robust"], axis=1)
    ratios = (means / means.loc[NONE]).drop(NONE)
    ratios["accepted"] = (ratios["clean"] >= ACCEPTED_CLEAN_RATIO) & (ratios["robust"] >= 1)
    best = ratios.loc[ratios["accepted"], "robust"].max()
    ratios["chosen"] = ratios["accepted"] & (ratios["robust"] == best)
    return ratios.reset_index()


STUDIES: dict[str, Callable[[Profile], Study]] = {
    "02_attack_curves": attack_curves,
    "06_frequency_spectra": frequency_spectra,
    "07_batch_size_study": batch_size_study,
}


def open_study(name: str, profile: str, protocol: str = "released", **changes) -> Study:
    """The study of a notebook.

    name: as in STUDIES.  profile: a profile's name, or the path of a YAML file.
    protocol: what the caller's figure shows; anything but 'released' is a customized figure.
    changes: alpha, threshold, seeds, gaussian_epsilon, fgsm_epsilon; None keeps the profile's value.
    Raises SpecError for an unknown study or profile, or a value that cannot be.
    """
    if name not in STUDIES:
        raise SpecError(f"unknown study '{name}'; allowed: {', '.join(STUDIES)}")
    original = load_profile(profile)
    adapted = adapt(original, **changes)
    study = STUDIES[name](adapted)
    customized = adapted != original or protocol != "released"
    return Study(study.name, adapted, study.series, study.evaluations, customized)


def adapt(
    profile: Profile,
    alpha: float | None = None,
    threshold: float | None = None,
    seeds: int | None = None,
    gaussian_epsilon: float | None = None,
    fgsm_epsilon: float | None = None,
) -> Profile:
    """A profile with some of its numbers changed; None keeps the profile's value.  Raises SpecError."""
    regularizer = _given(alpha=alpha, threshold=threshold)
    sizes = _given(gaussian_epsilon=gaussian_epsilon, fgsm_epsilon=fgsm_epsilon)
    return profile.changed(
        regularizer=profile.regularizer.changed(**regularizer).model_dump(),
        studies=profile.studies.changed(**sizes).model_dump(),
        **_given(seeds=seeds, pixel_alpha=alpha),
    )


def _given(**values) -> dict:
    return {name: value for name, value in values.items() if value is not None}


def _targets(profile: Profile, seeds: int) -> dict[str, tuple[Experiment, ...]]:
    return {target: _seeds(profile, target, seeds) for target in (NONE, PIXEL, THRESHOLD)}


def _seeds(profile: Profile, target: str, seeds: int, **regularizer) -> tuple[Experiment, ...]:
    return tuple(experiment(profile, target, seed, **regularizer) for seed in range(seeds))


def step_costs(profile: Profile, store: Store, rounds: int = 15) -> dict:
    """Seconds of a training step against k, as recorded; measured now where there is no record.

    Returns 'device', and 'rows' with k (0: unregularized), seconds (median over `rounds`), ratio to
    unregularized, and predicted = (batch + 2k) / batch, the cost if only the number of images counted.
    """
    costs = store.costs(profile)
    if costs is None:
        costs = {"device": device_name(default_device()), "rows": _measure_steps(profile, rounds)}
        store.save_costs(profile, costs)
    return costs


def _measure_steps(profile: Profile, rounds: int) -> list[dict]:
    rows = []
    for k in (0, *profile.studies.pairs_per_step):
        one = experiment(profile, NONE, 0) if k == 0 else experiment(profile, THRESHOLD, 0, pairs_per_step=k)
        batch = profile.optimization.batch_size
        seconds = seconds_per_step(one, rounds)
        first = rows[0]["seconds"] if rows else seconds
        rows.append({"k": k, "seconds": seconds, "ratio": seconds / first, "predicted": (batch + 2 * k) / batch})
    return rows
