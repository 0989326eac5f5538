"""What notebook 24 trains and measures: every defence on two tasks, under one set of attacks.

Networks are those of other notebooks wherever task, network, schedule and strength are the same: none and the targets
of 02 and 12, the profile's defences of 14, the partial network of 20, the polarizing one of 21, sparse codes of 22 and
Hebbian networks of 23.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from simreg_core.lab.figures import hebbian, polarizing
from simreg_core.lab.recipes import boundary, defended, experiment, fgsm, first_free_seed, noise, of_variant
from simreg_core.lab.series import NEURAL, NONE, PIXEL, THRESHOLD
from simreg_core.lab.sparse_study import DETERMINISTIC, OF_THE_SOURCE, experiment as of_sparse
from simreg_core.lab.specs import (
    SYSTEMS,
    AnyDefence,
    CodeAttacksEvaluation,
    CorruptionEvaluation,
    CostEvaluation,
    DefencesStudy,
    DefencesTask,
    Evaluation,
    Experiment,
    FrontEndEvaluation,
    Profile,
    SpecError,
    build,
)
from simreg_core.lab.study import Block

PARTIAL, POLARIZING, SPARSE, HAH = SYSTEMS
LENET, UNIT_VGG = "none (LeNet)", "none (unit VGG)"
# systems with a classifier of their own, and the same undefended
OWN_BASES: dict[str, str] = {POLARIZING: LENET, HAH: UNIT_VGG}
# of noise and FGSM: the records of notebooks 02 and 12, on the same networks, are older than the claims of 24
OWN_SEED = 1
Rows = dict[str, Callable[[int], Experiment]]  # the network of each row, by its seed


def base_of(profile: Profile, own: DefencesTask) -> Profile:
    """The profile of a task, with the strengths of its targets.

    Raises SpecError for values that cannot be.
    """
    base = profile
    if own.variant is not None:
        (variant,) = (one for one in profile.studies.variants if one.name == own.variant)
        base = of_variant(profile, variant)
        seen = {"images": base.task.images, "size": base.task.size}
        base = base.changed(neural=base.neural.changed(simulation=base.neural.simulation.changed(**seen)))
    alphas: dict[str, Any] = {"pixel_alpha": own.pixel_alpha} if own.pixel_alpha is not None else {}
    if own.neural_alpha is not None:
        alphas["neural"] = base.neural.changed(alpha=own.neural_alpha)
    return base.changed(**alphas)


def rows_of(profile: Profile, own: DefencesTask) -> Rows:
    """Every row of a task, and the undefended networks of the systems with a classifier of their own."""
    base = base_of(profile, own)
    rows: Rows = {name: _of_target(base, name) for name in (NONE, PIXEL, THRESHOLD)}
    if own.variant is None or own.neural_alpha is not None:
        rows[NEURAL] = _of_target(base, NEURAL)
    rows |= {name: partial(defended, base, spec) for name, spec in defences_of(profile, own).items()}
    systems: dict[str, Callable[[Profile, DefencesTask], Rows]] = {
        PARTIAL: _partial, POLARIZING: _polarizing, SPARSE: _sparse, HAH: _hebbian,
    }  # fmt: skip
    for name in own.systems:
        rows |= systems[name](base, own)
    return rows


def defences_of(profile: Profile, own: DefencesTask) -> dict[str, AnyDefence]:
    """The rules and front ends of a task, by the names of their rows."""
    return own.defences if own.variant is not None else {**profile.defences, **own.defences}


def task_profile(profile: Profile, name: str) -> Profile:
    """`base_of` of a task by its name.  Raises SpecError for a task that the profile does not have."""
    return base_of(profile, _task(profile, name))


def defence_of(profile: Profile, task: str | None, name: str) -> AnyDefence:
    """A rule or front end by its name.  task: None: of notebook 14.  Raises SpecError where there is none."""
    known = profile.defences if task is None else defences_of(profile, _task(profile, task))
    if name not in known:
        raise SpecError(f"unknown defence '{name}'; allowed: {', '.join(known)}")
    return known[name]


def _task(profile: Profile, name: str) -> DefencesTask:
    study = profile.all_defences
    known = {} if study is None else {own.name: own for own in study.tasks}
    if name not in known:
        allowed = ", ".join(known) or f"none, as '{profile.name}' has no all_defences"
        raise SpecError(f"unknown task '{name}'; allowed: {allowed}")
    return known[name]


def _of_target(base: Profile, target: str) -> Callable[[int], Experiment]:
    return lambda seed: experiment(base, target, seed)


def _partial(base: Profile, own: DefencesTask) -> Rows:
    choice: Any = own.partial
    rule: dict[str, Any] = {"method": "partial", "epsilon": choice.epsilon, "steps": choice.steps}
    first = choice.code[:2] if choice.code[1] == "1" else choice.code[2:]
    rule |= {"code": choice.code, "cut": choice.cut, "parent": {"adversarial": {**rule, "code": first}}}
    parts = {"task": base.task, "network": base.network, "optimization": base.optimization, "adversarial": rule}
    return {PARTIAL: lambda seed: build(Experiment, {**parts, "seed": seed, "protocol": base.protocol})}


def _polarizing(base: Profile, own: DefencesTask) -> Rows:
    task = polarizing_task(base, own)
    return {
        LENET: lambda seed: polarizing.experiment(base, task, seed, NONE),
        POLARIZING: lambda seed: polarizing.experiment(base, task, seed, POLARIZING),
    }


def polarizing_task(base: Profile, own: DefencesTask) -> Any:
    """The first task of notebook 21, of other images.  base: with a study of it."""
    study: Any = base.polarizing
    first = study.tasks[0]
    sizes = {"epsilon": own.epsilon, "epsilons": (own.epsilon / 2,)}
    return first.changed(name=own.name, task=base.task, threshold=own.polarizing_threshold or first.threshold, **sizes)


def _sparse(base: Profile, own: DefencesTask) -> Rows:
    """The first task of notebook 22, of other images and the base's classifier and schedule."""
    study: Any = base.sparse_coding
    epsilon = own.sparse_epsilon or own.epsilon
    others = {"epsilon": epsilon, "epsilons": (epsilon / 4, epsilon / 2)}
    task = study.tasks[0].changed(name=own.name, task=base.task, network=base.network, **others)
    changes = {"optimization": base.optimization, "epochs": own.sparse_epochs or study.epochs}
    changed = base.changed(sparse_coding=study.changed(**changes))
    return {SPARSE: lambda seed: of_sparse(changed, task, seed, SPARSE)}


def _hebbian(base: Profile, own: DefencesTask) -> Rows:
    study: Any = base.hebbian
    changed = base.changed(hebbian=study.changed(task=base.task))
    cost = {} if own.hebbian_cost is None else {"cost": own.hebbian_cost}
    return {
        UNIT_VGG: lambda seed: hebbian.experiment(changed, seed, hebbian.STANDARD),
        HAH: lambda seed: hebbian.experiment(changed, seed, HAH, **cost),
    }


def experiments(profile: Profile) -> tuple[Block, ...]:
    """Every row of every task under all that is asked; a block for each seed, whose surrogates are of that seed."""
    study = profile.all_defences
    if study is None:
        return ()
    blocks: list[Block] = []
    for own in study.tasks:
        base, rows = base_of(profile, own), rows_of(profile, own)
        common = common_evaluations(base, study)
        for seed in range(study.seeds):
            for name, of_seed in rows.items():
                attacked = attackers(base, own, study, name, seed, rows)
                blocks.append(Block({name: (of_seed(seed),)}, (*common, attacked), own.name))
    return tuple(blocks)


def common_evaluations(base: Profile, study: DefencesStudy) -> tuple[Evaluation, ...]:
    """What is measured of every network alike: noise, transferred FGSM, the boundary attack, corruptions, cost."""
    return (
        noise(base, "gaussian", "strict").changed(seed=OWN_SEED),
        fgsm(base, "strict").changed(seed=OWN_SEED),
        boundary(base).changed(images=study.boundary_images),
        CorruptionEvaluation(images=study.corruption_images, severities=study.severities, protocol="strict"),
        CostEvaluation(protocol="strict"),
    )


def attackers(base: Profile, own: DefencesTask, study: DefencesStudy, name: str, seed: int, rows: Rows) -> Evaluation:
    """All attackers of a row, and the worst of them per image.

    Behind a quantizer or a threshold every way of differentiating it; elsewhere the gradient itself. AutoAttack where
    nothing is quantized. All are attacked from an undefended network of a seed that no row has.
    """
    surrogates = (experiment(base, NONE, first_free_seed(base)),)
    sizes: dict[str, Any] = {one: getattr(study, one) for one in ("images", "steps", "restarts", "queries")}
    sizes |= {"epsilon": own.epsilon, "protocol": "strict"}
    if name == SPARSE:
        few = tuple(one for one in DETERMINISTIC if study.all_attackers or one.name in OF_THE_SOURCE)
        sizes |= {"attackers": few, "images": study.code_images, "learned_steps": study.learned_steps}
        return CodeAttacksEvaluation(surrogates=surrogates, **sizes)
    if name == POLARIZING:
        settings: Any = base.polarizing
        copy = polarizing.experiment(base, polarizing_task(base, own), seed, POLARIZING, until=2)
        ways = (*(("quantizer", way) for way in settings.ways), polarizing.WHOLE)
        walk = tuple(("quantizer", way) for way in settings.annealed) or None
        sizes |= {"annealed": walk, "certificates": (own.epsilon,)}
        return FrontEndEvaluation(ways=ways, surrogates=(copy, *surrogates), **sizes)
    sizes |= {one: getattr(study, one) for one in ("autoattack_images", "autoattack_budget")}
    if name == HAH:
        return FrontEndEvaluation(ways=hebbian.WAYS, surrogates=(rows[UNIT_VGG](seed), *surrogates), **sizes)
    return FrontEndEvaluation(ways=(), surrogates=surrogates, **sizes)
