"""Notebook 24, all defences side by side: how big its study is, and the evaluation that counts what a defence costs."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from simreg_core.lab.specs.base import Alpha, Count, Float, Int, Seeds, Spec, twice
from simreg_core.lab.specs.defence import AnyDefence
from simreg_core.lab.specs.dissertation import EpsilonEnd
from simreg_core.lab.specs.evaluation import Evaluation, more_than_attacked

Group = Literal["digits", "photographs"]
System = Literal["partial", "polarizing", "sparse coding", "HaH"]
SYSTEMS: tuple[System, ...] = ("partial", "polarizing", "sparse coding", "HaH")


class CostEvaluation(Evaluation):
    """What a network costs, counted: multiply-adds of an image's pass, parameters, multiply-adds of its training."""

    attack: Literal["cost"] = "cost"
    images: Count | None = 1


class PartialChoice(Spec):
    """The partially adversarial network of a task; see `defences.PartialTraining`."""

    code: Literal["A1N2", "N1A2", "A2N1", "N2A1"] = "A1N2"
    cut: Count
    epsilon: EpsilonEnd
    steps: Count


class DefencesTask(Spec):
    """A task on which all defences are compared.

    name: its part in the claims.  variant: of `studies.variants`, by name; None: the profile's task.
    epsilon: L-infinity, of all attacks along a gradient.
    defences: rules and front ends by the names of their rows, in place of the profile's of the same name; of a variant
        these only.
    pixel_alpha, neural_alpha: of S^pixel and S^neural; None: those of the profile or variant. A variant has S^neural
        where neural_alpha is given: its recordings are simulated with the task's images.
    systems: of the dissertation, as the profile's studies have them.  partial: None where it is not among them.
    sparse_epsilon, sparse_epochs: for which sparse coding is made, and of each of its stages; None: epsilon, and those
        of its study.
    polarizing_threshold, hebbian_cost: c of the polarizing front end, and the weight of all Hebbian costs; None: as in
        their studies.
    matched: how the strength of a row was chosen on validation images; of rows that are not named, it was not.
    """

    name: Group
    variant: str | None = None
    epsilon: EpsilonEnd
    defences: dict[str, AnyDefence] = Field(default_factory=dict)
    pixel_alpha: Alpha | None = None
    neural_alpha: Alpha | None = None
    systems: tuple[System, ...] = SYSTEMS
    partial: PartialChoice | None = None
    sparse_epsilon: EpsilonEnd | None = None
    sparse_epochs: Count | None = None
    polarizing_threshold: Annotated[Float, Field(gt=0, lt=1)] | None = None
    hebbian_cost: Annotated[Float, Field(gt=0, le=1e6)] | None = None
    matched: dict[str, str] = Field(default_factory=dict)

    def faults(self) -> Iterator[str]:
        if ("partial" in self.systems) != (self.partial is not None):
            yield f"'{self.name}': partial is given where, and only where, systems have 'partial'"
        yield from (f"systems of '{self.name}' have '{name}' twice" for name in twice(self.systems))
        for name in self.defences:
            if name in ("none", "S^Th", "S^pixel", "S^neural", *SYSTEMS):
                yield f"defences of '{self.name}' name '{name}', which is a row already"


class DefencesStudy(Spec):
    """Notebook 24 of a profile.

    tasks: digits, and patches of photographs, since digits flatter a polarizing front end and kill sparse codes.
    seeds: of each row, at least 5 for a claim.
    images, steps, restarts, queries, autoattack_images, autoattack_budget: of the attacks along a gradient, see
        `FrontEndEvaluation`.  learned_steps: see `CodeAttacksEvaluation`.
    code_images: attacked behind sparse codes, whose attackers are many and slow.
    boundary_images: of the boundary attack.  corruption_images, severities: of all corruptions.
    all_attackers: on sparse codes; else those of the source only, which is for tests.
    """

    tasks: Annotated[tuple[DefencesTask, ...], Field(min_length=1)]
    seeds: Seeds
    images: Count | None = None
    steps: Count = 40
    restarts: Count = 2
    queries: Count = 200
    learned_steps: Count = 200
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None
    code_images: Count | None = None
    boundary_images: Count
    corruption_images: Count | None = None
    severities: Annotated[tuple[Annotated[Int, Field(ge=1, le=5)], ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    all_attackers: bool = True

    def faults(self) -> Iterator[str]:
        for name in twice(one.name for one in self.tasks):
            yield f"tasks name '{name}' twice"
        yield from more_than_attacked(self.autoattack_images, self.images)
