"""Notebook 22, the sparse-coding front end: how big its study is, who attacks it, and what is measured of its codes."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from simreg_core.defences.sparse_training import check_coder, check_image
from simreg_core.lab.specs.base import Count, Epsilons, Float, Int, LearningRate, Seeds, Spec, twice
from simreg_core.lab.specs.dissertation import EpsilonEnd
from simreg_core.lab.specs.evaluation import Evaluation, more_than_attacked
from simreg_core.lab.specs.training import Experiment, Network, Optimization, Task

Way = tuple[str, str]  # (part, way), as in `defences.differentiated`
Size = Annotated[Float, Field(gt=0)]


class CodeAttacker(Spec):
    """A way to attack a network behind a front end.

    name: of its curve.  phases: ways of each part; of several, the walk takes one after another, each from where the
    one before it ended.  method: 'pgd', or Auto-PGD on the cross-entropy or the difference of logits ratio.
    draws: of a random front end, over which every gradient is averaged.
    mean: the attack is made on the copy without dropout, and transferred.
    """

    name: str
    phases: Annotated[tuple[tuple[Way, ...], ...], Field(min_length=1)] = ((),)
    method: Literal["pgd", "apgd-ce", "apgd-dlr"] = "pgd"
    draws: Count = 1
    mean: bool = False

    def faults(self) -> Iterator[str]:
        if len(self.phases) > 1 and self.method != "pgd":
            yield f"attacker '{self.name}': only pgd goes on where another walk ended, not {self.method}"
        for phase in self.phases:
            yield from (f"attacker '{self.name}' names {part} twice" for part in twice(part for part, _ in phase))


class CodeAttacksEvaluation(Evaluation):
    """Accuracy under attackers who know a sparse-coding front end, and the worst over them per image.

    norm, epsilon: of all attacks.  attackers: see `CodeAttacker`.
    steps, restarts: of PGD and Auto-PGD.  queries: of Square; None: it is not made (it knows no L1).
    epsilons: more of them, at which the attackers named in `curves` are made with `few_steps` steps, once.
    surrogates: networks that attacks are made on too, and transferred; behind a front end also through it as the
        identity.
    draws: numbers of draws at which the first attacker is made, of `draw_steps` steps; None: not asked for.
    learned_steps: of the training of the surrogate behind which coder='learned' is differentiated.
    autoattack_images, autoattack_budget: see `WhiteBoxEvaluation`; under 'linf', of a network without a quantizer.
    """

    attack: Literal["code_attacks"] = "code_attacks"
    norm: Literal["linf", "l2", "l1"] = "linf"
    epsilon: Size
    attackers: Annotated[tuple[CodeAttacker, ...], Field(min_length=1)]
    steps: Count = 40
    restarts: Count = 2
    queries: Count | None = None
    epsilons: Epsilons | None = None
    curves: tuple[str, ...] = ()
    few_steps: Count | None = None
    surrogates: tuple[Experiment, ...] = ()
    draws: tuple[Count, ...] | None = None
    draw_steps: Count | None = None
    learned_steps: Count = 200
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None

    def faults(self) -> Iterator[str]:
        names = [one.name for one in self.attackers]
        yield from (f"attackers name '{name}' twice" for name in twice(names))
        yield from (f"curves have '{name}', which is no attacker" for name in self.curves if name not in names)
        if self.epsilon in (self.epsilons or ()):
            yield f"epsilons have epsilon, {self.epsilon:g}, again"
        if (self.epsilons is None) != (self.few_steps is None) or (self.epsilons is None) != (not self.curves):
            yield "epsilons, few_steps and curves belong together"
        if (self.draws is None) != (self.draw_steps is None):
            yield "draws and draw_steps belong together"
        if self.norm == "linf":
            if self.epsilon > 1:
                yield f"epsilon under 'linf' must lie in (0, 1], got {self.epsilon:g}"
        elif slow := [one.name for one in self.attackers if one.method == "pgd"]:
            yield f"under '{self.norm}' attackers use apgd-ce or apgd-dlr; pgd has {', '.join(slow)}"
        if self.norm != "linf" and (self.queries or self.epsilons or self.autoattack_images):
            yield f"queries, epsilons and autoattack_images go with 'linf', not with '{self.norm}'"
        yield from more_than_attacked(self.autoattack_images, self.images)


class SparseCodesEvaluation(Evaluation):
    """What a sparse-coding front end makes of images: its dictionary, its codes, and what an attack on them changes.

    epsilon: L-infinity size of noise and attack.  steps: of the attack on the codes.
    surrogate: a network whose first filters are set beside the atoms.
    """

    attack: Literal["sparse_codes"] = "sparse_codes"
    epsilon: EpsilonEnd
    steps: Count = 10
    surrogate: Experiment


class SparseTask(Spec):
    """A task of notebook 22.

    name: how the figure calls it.  network: the classifier.
    atoms, patch, stride, sparsity, batches, batch_size, beta, decoder, widths: see `SparseCodingTraining`.
    centred_sparsity: λ of the dictionary without means, whose patches are smaller.
    kept: T of the variant without random numbers.  sweep: more of them, for table B.1.
    random_kept, dropout, draws: T, p and E of the random variant.
    epsilon: L-infinity, of training and attacks.  epsilons: more of them, for curves.  l2, l1: of the other norms.
    learning_rate, random_learning_rate: see `SparseCodingTraining`; of each variant.
    random_start: decoder_start of the random variant, likewise.
    """

    name: str
    task: Task
    network: Network
    atoms: Count = 500
    patch: Count = 4
    stride: Count = 2
    sparsity: Size = 1.0
    centred_sparsity: Size = 0.1
    batches: Count = 1000
    batch_size: Count = 5
    beta: Size = 3.0
    decoder: Literal["strided", "resized"] = "strided"
    widths: tuple[Count, Count] = (300, 100)
    kept: Count = 15
    sweep: tuple[Count, ...] = ()
    random_kept: Count = 50
    dropout: Annotated[Float, Field(gt=0, lt=1)] = 0.95
    draws: Count = 10
    epsilon: EpsilonEnd
    epsilons: Annotated[Epsilons, Field(min_length=2)]
    l2: Size
    l1: Size
    learning_rate: LearningRate = 0.02
    random_learning_rate: LearningRate = 0.05
    random_start: Annotated[Float, Field(gt=0, lt=1)] | None = None

    def faults(self) -> Iterator[str]:
        for kept in (self.kept, *self.sweep, self.random_kept):
            try:
                check_coder(self.atoms, self.patch, self.stride, kept, self.dropout)
            except ValueError as error:
                yield f"'{self.name}': {error}"
        try:
            check_image(self.task.size, self.patch, self.stride)
        except ValueError as error:
            yield f"'{self.name}': {error}"
        if self.epsilon in self.epsilons:
            yield f"epsilons of '{self.name}' have epsilon, {self.epsilon:g}, again"
        for kept in twice((self.kept, *self.sweep)):
            yield f"sweep of '{self.name}' has {kept} twice; each is a curve of its own, and so is kept"


class SparseStudy(Spec):
    """Notebook 22 of a profile: the sparse-coding front end.

    optimization: of all networks; those behind a front end have a learning rate that rises and falls, and `epochs`.
    epochs: of each of their stages.  adversarial_steps: of PGD in adversarial training.  seeds: of each curve.
    trades: beta of TRADES beside adversarial training; None: it is not trained.
    images, steps, restarts, queries, few_steps, autoattack_images, autoattack_budget: see `CodeAttacksEvaluation`.
    random_images, random_draws, random_steps: of the attacks on random networks, whose gradients are averaged.
    draw_counts, draw_steps: numbers of draws that are set side by side.
    norm_steps: of Auto-PGD under L2 and L1.  learned_steps: see `CodeAttacksEvaluation`.
    all_attackers: else those of the source and the annealed walk only, which is for tests.
    code_images: whose codes are looked at.  query_images, query_steps: of HopSkipJump; None: it is not made.
    """

    tasks: Annotated[tuple[SparseTask, ...], Field(min_length=1)]
    optimization: Optimization
    epochs: Count
    adversarial_steps: Count
    trades: Annotated[Float, Field(ge=0)] | None = None
    seeds: Seeds
    images: Count | None = None
    steps: Count = 40
    restarts: Count = 2
    queries: Count = 200
    few_steps: Count = 20
    random_images: Count | None = None
    random_draws: Count = 40
    random_steps: Count = 20
    draw_counts: Annotated[tuple[Count, ...], Field(min_length=2)] = (1, 10, 40, 100)
    draw_steps: Count = 10
    norm_steps: Count = 40
    learned_steps: Count = 200
    code_images: Count = 200
    query_images: Count | None = None
    query_steps: Annotated[Int, Field(ge=1)] = 3
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None
    all_attackers: bool = True

    def faults(self) -> Iterator[str]:
        for name in twice(one.name for one in self.tasks):
            yield f"tasks name '{name}' twice"
        for count in twice(self.draw_counts):
            yield f"draw_counts have {count} twice"
        yield from more_than_attacked(self.autoattack_images, self.images)
