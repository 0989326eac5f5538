"""The experiments and evaluations that figures are made of: each from a profile, which may be changed first."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from simreg_core.lab.series import NEURAL, NONE, PIXEL, SHUFFLED_NEURAL, TARGETS, THRESHOLD
from simreg_core.lab.specs import (
    AnyDefence,
    Architecture,
    BoundaryEvaluation,
    DefenceSpec,
    Evaluation,
    Experiment,
    FgsmEvaluation,
    Network,
    NeuralExperiment,
    NoiseEvaluation,
    OtherSimilarity,
    Profile,
    Published,
    RegularizationSet,
    Spec,
    SpecError,
    StudySizes,
    StudyTask,
    Variant,
    build,
)
from simreg_core.names import PROTOCOLS, WIDTHS, NoiseName, Protocol

EPSILON_LEVELS = 10  # released code: ten equally spaced, zero included


def experiment(profile: Profile, target: str, seed: int, /, **regularizer) -> Experiment:
    """One training run of a profile.

    target: 'none', or a label of `series.TARGETS`: 'S^Th' and so on.
    regularizer: fields that differ from the profile's.
    Raises SpecError for an unknown target or field, or a value that cannot be.
    """
    own = _target_fields(profile, target)
    spec = None if own is None else profile.regularizer.changed(**{**own, **regularizer})
    parts = {"task": profile.task, "network": profile.network, "optimization": profile.optimization}
    return build(Experiment, {**parts, "regularizer": spec, "seed": seed, "protocol": profile.protocol})


def _target_fields(profile: Profile, target: str) -> dict | None:
    """The fields of the regularizer in which a target differs from the profile's; None: no regularizer."""
    if target == NONE:
        return None
    kinds = {label: kind for kind, label in TARGETS.items()}
    if target not in kinds:
        raise SpecError(f"unknown target '{target}'; allowed: {', '.join((NONE, *kinds))}")
    fields: dict[str, Any] = {"target": kinds[target]}
    if target == PIXEL:
        fields["alpha"] = profile.pixel_alpha
    elif target in (NEURAL, SHUFFLED_NEURAL):
        fields |= {"neural": target_predictors(profile), "alpha": profile.neural.alpha}
    return fields


def seeds_of(profile: Profile, target: str, seeds: int, /, **regularizer) -> tuple[Experiment, ...]:
    """An experiment for each of the seeds 0 to `seeds` - 1; otherwise as `experiment`."""
    return tuple(experiment(profile, target, seed, **regularizer) for seed in range(seeds))


def defended(profile: Profile, spec: AnyDefence, seed: int) -> Experiment:
    """The profile's unregularized network, trained by a rule or behind a front end."""
    none = experiment(profile, NONE, seed)
    if isinstance(spec, DefenceSpec):
        return none.changed(adversarial=spec)
    return none.changed(network=profile.network.changed(front_end=spec))


def targets_of(profile: Profile, seeds: int) -> dict[str, tuple[Experiment, ...]]:
    """None, S^pixel and S^Th."""
    return {target: seeds_of(profile, target, seeds) for target in (NONE, PIXEL, THRESHOLD)}


def headline_seeds(profile: Profile) -> int:
    """How many seeds a curve of the headline claims has."""
    return profile.main_seeds or profile.seeds


def sets_of(profile: Profile, sets: tuple[RegularizationSet, ...], seeds: int) -> dict[str, tuple[Experiment, ...]]:
    """S^Th with each regularization set, by the names of their images."""
    return {one.images: seeds_of(profile, THRESHOLD, seeds, **one.fields()) for one in sets}


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


def noise(profile: Profile, kind: NoiseName, protocol: Protocol = "released") -> NoiseEvaluation:
    """Accuracy under a noise of `attacks.NOISES`."""
    epsilons = levels(getattr(profile.studies.epsilons, kind))
    return NoiseEvaluation(attack=kind, epsilons=epsilons, protocol=protocol, images=profile.studies.test_images)


def first_free_seed(profile: Profile) -> int:
    """The first seed that no curve uses."""
    return max(profile.seeds, profile.selection.seeds, profile.main_seeds or 0)


def fgsm(profile: Profile, protocol: Protocol = "released") -> FgsmEvaluation:
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


def of_task(profile: Profile, own: StudyTask) -> Profile:
    """The profile with another task, and its network, schedule and strengths of attacks, where it has them."""
    return profile.changed(
        task=own.task,
        studies=profile.studies.changed(**_given(epsilons=own.epsilons)),
        **_given(network=own.network, optimization=own.optimization),
    )


def of_variant(profile: Profile, variant: Variant) -> Profile:
    """The profile with another task, network or schedule, and regularization set."""
    own = variant.regularization_set.fields()
    return of_task(profile, variant).changed(
        regularizer=profile.regularizer.changed(**own), **_given(pixel_alpha=variant.pixel_alpha)
    )


def in_colour(profile: Profile) -> Profile:
    """The profile with its task in colour."""
    own = profile.studies.colour_task
    return profile.changed(task=profile.task.changed(channels=3)) if own is None else of_task(profile, own)


def under_corruptions(profile: Profile) -> Profile:
    """The profile with the task that is corrupted, and its regularization sets."""
    own, sets = profile.studies.corruption_task, profile.studies.corruption_sets
    corrupted = profile if own is None else of_task(profile, own)
    return corrupted.changed(studies=corrupted.studies.changed(**_given(regularization_sets=sets)))


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
    corruptions: bool = False,
    variant: str | None = None,
    architecture: str | None = None,
    similarity: str | None = None,
) -> Profile:
    """The profile of another corner of its studies: a regularization set, the task in colour, that of the
    corruptions, a variant (the task of a table among them), an architecture, a similarity of notebook 18.

    Raises SpecError for a set, variant, architecture or similarity that the profile does not have.
    """
    if similarity is not None:
        own = _chosen(profile.studies.other_similarities or (), similarity, "similarity")
        others = profile.studies.changed(design=None, matched_alphas=None)  # with targets that linear CKA cannot have
        profile = profile.changed(studies=others).changed(regularizer=profile.regularizer.changed(**own.fields()))
    if architecture is not None:
        profile = of_architecture(profile, _chosen(profile.studies.architectures, architecture, "architecture"))
    if variant is not None:
        table = () if profile.studies.tabular is None else (profile.studies.tabular,)
        profile = of_variant(profile, _chosen((*profile.studies.variants, *table), variant, "variant"))
    if colour:
        profile = in_colour(profile)
    if corruptions:
        profile = under_corruptions(profile)
    if images is not None:
        sets = profile.studies.colour_sets if colour else profile.studies.regularization_sets
        own = _chosen(sets, images, "regularization set", "images")
        profile = profile.changed(regularizer=profile.regularizer.changed(**own.fields()))
    return profile


def _chosen(known: Sequence[Any], name: str, what: str, field: str = "name") -> Any:
    """The one of that name.  Raises SpecError where there is none."""
    by_name = {getattr(one, field): one for one in known}
    if name not in by_name:
        raise SpecError(f"unknown {what} '{name}'; allowed: {', '.join(by_name)}")
    return by_name[name]


def with_part(profile: Profile, part: str | None, changes: dict[str, Any]) -> Profile:
    """A profile of which a figure's own part is changed, and the rest as by `adapt`; None keeps a value.

    part: the profile's field, such as 'partial'; None, or a field of a field: all changes are `adapt`'s.
    changes: by name of the part's fields; a name that only its tasks have is changed in each of them.
    Raises SpecError for a value that cannot be.
    """
    own = getattr(profile, part or "", None)  # None, too, of a field of a field
    if not isinstance(own, Spec):
        return adapt(profile, **changes)
    tasks = getattr(own, "tasks", ())
    of_own = {name for name in changes if name in type(own).model_fields}
    of_tasks = {name for name in changes if tasks and name in type(tasks[0]).model_fields} - of_own
    given = _given(**{name: changes[name] for name in of_own})
    if for_tasks := _given(**{name: changes[name] for name in of_tasks}):
        given["tasks"] = tuple(task.changed(**for_tasks) for task in tasks)
    changed = profile.changed(**{part: own.changed(**given)}) if given else profile
    return adapt(changed, **{name: changes[name] for name in changes if name not in of_own | of_tasks})


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
    k: int | None = None,
    count: int | None = None,
    animals: int | None = None,
) -> Profile:
    """A profile with some of its numbers changed; None keeps the profile's value.  Raises SpecError.

    alpha, threshold: also of every regularization set, component set, variant and architecture with a value of its own.
    seeds: also of the spectra, where the profile has fewer of them.
    k, count: one more number of pairs a step, and of regularization images, beside those that are compared.
    animals: how many simulated ones.
    """
    regularizer = _given(alpha=alpha, threshold=threshold)
    epsilons = profile.studies.epsilons.changed(**_given(gaussian=gaussian_epsilon, fgsm=fgsm_epsilon))
    spectrum_seeds = max(profile.studies.spectrum_seeds, seeds or 0)
    return profile.changed(
        regularizer=profile.regularizer.changed(**regularizer),
        studies=profile.studies.changed(
            epsilons=epsilons,
            spectrum_seeds=spectrum_seeds,
            pairs_per_step=_with(profile.studies.pairs_per_step, k),
            image_counts=_with(profile.studies.image_counts, count),
            **_own_values_replaced(profile.studies, regularizer),
        ),
        selection=profile.selection.changed(**_given(alphas=alphas, thresholds=thresholds, seeds=selection_seeds)),
        neural=profile.neural.changed(**_given(alpha=alpha, animals=animals)),
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

    def of_similarity(one: OtherSimilarity) -> OtherSimilarity:
        return one.changed(**_given(alpha=values.get("alpha") if one.alpha is not None else None))

    def of_variant(one: Variant) -> Variant:
        pixel = {"pixel_alpha": values["alpha"]} if "alpha" in values and one.pixel_alpha is not None else {}
        return one.changed(regularization_set=of(one.regularization_set), **pixel)

    return {
        "regularization_sets": tuple(map(of, sizes.regularization_sets)),
        "component_set": of(sizes.component_set),
        "colour_sets": tuple(map(of, sizes.colour_sets)),
        "corruption_sets": None if sizes.corruption_sets is None else tuple(map(of, sizes.corruption_sets)),
        "variants": tuple(map(of_variant, sizes.variants)),
        "architectures": tuple(map(of_architecture, sizes.architectures)),
        "other_similarities": sizes.other_similarities and tuple(map(of_similarity, sizes.other_similarities)),
        "tabular": sizes.tabular and of_variant(sizes.tabular),
    }


def _with(numbers: tuple[int, ...], another: int | None) -> tuple[int, ...]:
    return numbers if another is None or another in numbers else (*numbers, another)


def _given(**values) -> dict:
    return {name: value for name, value in values.items() if value is not None}
