"""What notebook 22 trains and measures: networks behind sparse codes, what they are compared with, and who attacks."""

from typing import Any, Literal

from simreg_core.lab.series import NONE
from simreg_core.lab.sparse_gains import (
    ALL_ATOMS,
    AUTHORS,
    CENTRED,
    EOT,
    LOST,
    PGD,
    RANDOM,
    SPARSE,
    TRADES,
    UNQUANTIZED,
    with_kept,
)
from simreg_core.lab.specs import (
    ADVERSARIAL,
    CodeAttacker,
    CodeAttacksEvaluation,
    Evaluation,
    Experiment,
    MinimumNormEvaluation,
    Profile,
    SparseCodesEvaluation,
    SparseStudy,
    SparseTask,
    build,
)
from simreg_core.lab.study import Block

UNSUPERVISED = "unsupervised"  # a surrogate only: the source's PW-T
SMOOTH, HALF_KEPT = ("quantizer", "tanh4"), ("selection", "top 2T")
FEW_KEPT = 2  # with as few the source trains at the largest learning rate of the random variant
ANNEALED, WHOLE, LEARNED = "annealed", "whole front end as identity", "whole front end learned"
# of networks without random numbers; the first is the source's (appendix B), 'all atoms' what its code calls baseline
DETERMINISTIC = (
    CodeAttacker(name=AUTHORS, phases=((SMOOTH, HALF_KEPT),)),
    CodeAttacker(name=ALL_ATOMS, phases=((SMOOTH, ("selection", "all")),)),
    CodeAttacker(name="smooth, T atoms", phases=((SMOOTH, ("selection", "kept")),)),
    CodeAttacker(name="smooth, 5T atoms", phases=((SMOOTH, ("selection", "top 5T")),)),
    CodeAttacker(name="smooth, relaxed selection", phases=((SMOOTH, ("selection", "softmax")),)),
    CodeAttacker(name="smooth, decoder unbounded", phases=((SMOOTH, HALF_KEPT, ("decoder", "unbounded")),)),
    CodeAttacker(name="identity, 2T atoms", phases=((("quantizer", "identity"), HALF_KEPT),)),
    CodeAttacker(
        name=ANNEALED,
        phases=tuple((("quantizer", f"tanh{steepness}"), HALF_KEPT) for steepness in (2, 4, 8, 32)),
    ),
    CodeAttacker(name=WHOLE, phases=((("coder", "identity"),),)),
    CodeAttacker(name=LEARNED, phases=((("coder", "learned"),),)),
    CodeAttacker(name="Auto-PGD, cross-entropy", phases=((SMOOTH, HALF_KEPT),), method="apgd-ce"),
    CodeAttacker(name="Auto-PGD, DLR", phases=((SMOOTH, HALF_KEPT),), method="apgd-dlr"),
)
CURVES = (AUTHORS, ANNEALED, WHOLE)
OTHER_NORMS = (
    *DETERMINISTIC[-2:],
    CodeAttacker(name="whole, cross-entropy", phases=((("coder", "identity"),),), method="apgd-ce"),
    CodeAttacker(name="whole, DLR", phases=((("coder", "identity"),),), method="apgd-dlr"),
)
PLAIN = (
    CodeAttacker(name=PGD),
    CodeAttacker(name="Auto-PGD, cross-entropy", method="apgd-ce"),
    CodeAttacker(name="Auto-PGD, DLR", method="apgd-dlr"),
)


def random_attackers(draws: int) -> tuple[CodeAttacker, ...]:
    """Of networks that drop coefficients at random; the first two, and the whole as the identity, are the source's."""
    kept, mean = ("selection", "kept"), ("dropout", "mean")
    return (
        CodeAttacker(name=EOT, phases=((SMOOTH, kept, ("draw", "plain")),), draws=draws),
        CodeAttacker(name="averaged draws of length 1", phases=((SMOOTH, kept, ("draw", "unit")),), draws=draws),
        CodeAttacker(name=WHOLE, phases=((("coder", "identity"), ("draw", "unit")),), draws=draws),
        CodeAttacker(name="through the mean of draws", phases=((SMOOTH, HALF_KEPT, mean),)),
        CodeAttacker(
            name="annealed, through that mean",
            phases=tuple((("quantizer", f"tanh{steepness}"), HALF_KEPT, mean) for steepness in (2, 4, 8, 32)),
        ),
        CodeAttacker(name=LEARNED, phases=((("coder", "learned"),),)),
        CodeAttacker(name="from the copy without dropout", phases=((SMOOTH, HALF_KEPT),), mean=True),
        CodeAttacker(name="from that copy as identity", phases=((("coder", "identity"),),), mean=True),
        CodeAttacker(
            name="from that copy, all atoms, decoder unbounded",
            phases=((SMOOTH, ("selection", "all"), ("decoder", "unbounded")),),
            mean=True,
        ),
    )


RANDOM_CURVES = (EOT, "from the copy without dropout")
OF_THE_SOURCE = (AUTHORS, ALL_ATOMS, WHOLE, EOT, PGD)
COMPARED = (NONE, ADVERSARIAL, TRADES, SPARSE)  # under other norms too
WITH_CODES = (SPARSE, CENTRED, RANDOM, LOST)


def rules_of(own: SparseTask) -> dict[str, dict]:
    """What differs from `SPARSE` in each series with a front end."""
    random = {"kept": own.random_kept, "dropout": own.dropout, "draws": own.draws}
    few = {"learning_rate": own.random_learning_rate}
    random |= few | ({} if own.random_start is None else {"decoder_start": own.random_start})
    return {
        SPARSE: {},
        UNQUANTIZED: {"quantizer": "off"},
        CENTRED: {"centred": True, "sparsity": own.centred_sparsity},
        RANDOM: random,
        LOST: {**random, "signs": "lost"},
        UNSUPERVISED: {"quantizer": "off", "training": "unsupervised", "learning_rate": own.random_learning_rate},
        **{with_kept(kept): {"kept": kept, **(few if kept <= FEW_KEPT else {})} for kept in own.sweep},
    }


def experiment(profile: Profile, own: SparseTask, seed: int, series: str) -> Experiment:
    """One training."""
    study, rule = profile.sparse_coding, dict[str, Any]()
    optimization = study.optimization
    if series in (ADVERSARIAL, TRADES):
        rule = {"method": "pgd", "epsilon": own.epsilon, "steps": study.adversarial_steps}
        if series == TRADES:
            rule |= {"method": "trades", "beta": study.trades}
    elif series != NONE:
        names = (
            *("atoms", "patch", "stride", "sparsity", "batches", "batch_size", "beta", "decoder", "widths", "kept"),
            *("epsilon", "learning_rate"),
        )
        rule = {"method": "sparse_coding", **{name: getattr(own, name) for name in names}, **rules_of(own)[series]}
        optimization = optimization.changed(epochs=study.epochs)
    parts = {"task": own.task, "network": own.network, "optimization": optimization, "adversarial": rule or None}
    return build(Experiment, {**parts, "seed": seed, "protocol": profile.protocol})


def series_of(study: SparseStudy, own: SparseTask) -> tuple[str, ...]:
    """The curves of a task, those without a front end first."""
    trades = () if study.trades is None else (TRADES,)
    return (NONE, ADVERSARIAL, *trades, *(name for name in rules_of(own) if name != UNSUPERVISED))


def experiments(profile: Profile) -> tuple[Block, ...]:
    """All attackers on every network, and what its codes are; a block for each seed has its surrogates."""
    study = profile.sparse_coding
    if study is None:
        return ()
    blocks = []
    for own in study.tasks:
        for seed in range(study.seeds):
            names = (*series_of(study, own), UNSUPERVISED)
            trained = {name: experiment(profile, own, seed, name) for name in names}
            surrogates = tuple(trained[name] for name in (UNSUPERVISED, NONE, UNQUANTIZED))
            for name in series_of(study, own):
                measured = evaluations(study, own, name, surrogates)
                blocks.append(Block({name: (trained[name],)}, measured, own.name))
    return tuple(blocks)


def evaluations(
    study: SparseStudy, own: SparseTask, series: str, surrogates: tuple[Experiment, ...]
) -> tuple[Evaluation, ...]:
    """What is measured of a series.  surrogates: of its seed; the second is undefended."""
    found: list[Evaluation] = [_attacks(study, own, series, surrogates)]
    if series in COMPARED:
        found += [_norms(study, own, series, "l2", surrogates[1]), _norms(study, own, series, "l1", surrogates[1])]
        if study.query_images is not None:
            images, steps = study.query_images, study.query_steps
            found.append(
                MinimumNormEvaluation(method="hop_skip_jump", norm="l2", images=images, steps=steps, protocol="strict")
            )
    if series in (SPARSE, CENTRED, RANDOM):
        found.append(
            SparseCodesEvaluation(
                epsilon=own.epsilon, images=study.code_images, surrogate=surrogates[1], protocol="strict"
            )
        )
    return tuple(found)


def _attacks(
    study: SparseStudy, own: SparseTask, series: str, surrogates: tuple[Experiment, ...]
) -> CodeAttacksEvaluation:
    """Under L-infinity: behind a quantizer all ways of an attacker, elsewhere the gradient itself and AutoAttack."""
    names = ("images", "steps", "restarts")
    sizes: dict[str, Any] = {name: getattr(study, name) for name in names}
    if series not in COMPARED + WITH_CODES + (UNQUANTIZED,):  # of table B.1: a few attackers at one epsilon
        few = tuple(one for one in DETERMINISTIC if one.name in (AUTHORS, ALL_ATOMS, ANNEALED))
        return CodeAttacksEvaluation(epsilon=own.epsilon, attackers=few, protocol="strict", **sizes)
    sizes |= {name: getattr(study, name) for name in ("queries", "few_steps", "learned_steps")}
    if series in (RANDOM, LOST):
        sizes |= {"images": study.random_images, "steps": study.random_steps, "restarts": 1}
        if series == RANDOM:
            sizes |= {"draws": study.draw_counts, "draw_steps": study.draw_steps}
    elif series not in WITH_CODES:
        sizes |= {name: getattr(study, name) for name in ("autoattack_images", "autoattack_budget")}
    attackers, curves = _attackers_of(study, series)
    if series not in (NONE, ADVERSARIAL, TRADES):
        sizes["surrogates"] = surrogates[1:2] if series == UNQUANTIZED else surrogates
    return CodeAttacksEvaluation(
        epsilon=own.epsilon, epsilons=own.epsilons, attackers=attackers, curves=curves, protocol="strict", **sizes
    )


def _attackers_of(study: SparseStudy, series: str) -> tuple[tuple[CodeAttacker, ...], tuple[str, ...]]:
    """The attackers of a series, and those that have curves."""
    attackers: tuple[CodeAttacker, ...] = PLAIN
    curves: tuple[str, ...] = (PGD,)
    if series in (RANDOM, LOST):
        attackers, curves = random_attackers(study.random_draws), RANDOM_CURVES
    elif series in WITH_CODES:
        attackers, curves = DETERMINISTIC, CURVES
    elif series == UNQUANTIZED:
        attackers, curves = (CodeAttacker(name=AUTHORS, phases=((HALF_KEPT,),)), *PLAIN), (AUTHORS,)
    if study.all_attackers:
        return attackers, curves
    few = tuple(one for one in attackers if one.name in (*OF_THE_SOURCE, ANNEALED))
    return few, tuple(name for name in curves if name in OF_THE_SOURCE)


def _norms(
    study: SparseStudy, own: SparseTask, series: str, norm: Literal["l2", "l1"], undefended: Experiment
) -> CodeAttacksEvaluation:
    """Under L2 or L1: Auto-PGD."""
    behind = series == SPARSE
    sizes: dict[str, Any] = {"attackers": OTHER_NORMS if behind else PLAIN[1:], "steps": study.norm_steps}
    return CodeAttacksEvaluation(
        norm=norm, epsilon=getattr(own, norm), images=study.images, restarts=study.restarts, protocol="strict",
        surrogates=(undefended,) if behind else (), **sizes,
    )  # fmt: skip
