"""The registry of defences: one row for each rule of training and for each front end.

A row's specification, which a profile gives by `method` or `kind`, has the arguments of its class; see
`specs.DefenceSpec` and `specs.FrontEndSpec`. Planning reads this table, so it loads no torch by itself.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property, reduce
from operator import or_
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from simreg_core import defences
from simreg_core.defences import FrontEndSettings, Parent, Plain, Rule, Stage

if TYPE_CHECKING:
    from simreg_core.defences import FrontEnd
    from simreg_core.lab.specs import DefenceSpec, Experiment, FrontEndSpec, Network


TAKEN = ("method", "kind", "key", "made", "of", "changed", "faults", "copy", "json")  # by specifications


@dataclass(frozen=True)
class Row:
    """A defence that a profile may name.

    name: its `method`, of a rule, or `kind`, of a front end.
    made: the class of the rule, of the front end's settings, or of the front end itself, which needs torch.
    kept: fields of the specification that the class has no use for, with type and default: without them the keys of
        experiments that were trained before would move.
    Raises TypeError for a class that lacks something, naming it.
    """

    name: str
    made: type[Rule | FrontEndSettings | FrontEnd]
    kept: dict[str, tuple[Any, Any]] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        of_settings = issubclass(self.made, Rule | FrontEndSettings)
        if not of_settings and not issubclass(self.made, defences.FrontEnd):
            raise TypeError(
                f"defence '{self.name}': {self.made.__name__} must be a Rule, a FrontEnd or its FrontEndSettings"
            )
        if lacking := sorted(getattr(self.made, "__abstractmethods__", ())):
            raise TypeError(f"defence '{self.name}': {self.made.__name__} lacks {', '.join(lacking)}")
        if of_settings and not (is_dataclass(self.made) and self.made.__dataclass_params__.frozen):
            raise TypeError(f"defence '{self.name}': {self.made.__name__} must be a frozen dataclass")
        if untyped := [one.name for one in self.arguments if one.annotation is inspect.Parameter.empty]:
            raise TypeError(f"defence '{self.name}': argument '{untyped[0]}' of {self.made.__name__} has no type")
        if taken := [one.name for one in self.arguments if one.name in TAKEN]:
            raise TypeError(f"defence '{self.name}': argument '{taken[0]}' of {self.made.__name__} needs another name")
        if len(parents := [one.name for one in self.arguments if one.annotation is Parent]) > 1:
            raise TypeError(f"defence '{self.name}': {self.made.__name__} has several parents: {', '.join(parents)}")

    @cached_property  # a plan of the paper's size asks 50,000 times
    def arguments(self) -> tuple[inspect.Parameter, ...]:
        return tuple(inspect.signature(self.made, eval_str=True).parameters.values())

    def fields(self, types: dict[Any, Any]) -> dict[str, tuple[Any, Any]]:
        """The specification's fields, each with type and default, `...` where there is none.

        types: what stands in a specification for a type of an argument.
        """
        own = {
            one.name: (_replaced(one.annotation, types), ... if one.default is one.empty else one.default)
            for one in self.arguments
        }
        return {**own, **self.kept}

    def build(self, spec: DefenceSpec | FrontEndSpec) -> Any:
        """An object of its class with the specification's settings.  Raises ValueError for settings that cannot be."""
        return self.made(**{one.name: getattr(spec, one.name) for one in self.arguments})


def _replaced(annotation: Any, types: dict[Any, Any]) -> Any:
    """A type in which each part of `types` is replaced, also inside `X | None` and `tuple[X, ...]`."""
    if annotation in types:
        return types[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return reduce(or_, (_replaced(one, types) for one in arguments))
    if origin in (tuple, dict):
        return origin[tuple(one if one is ... else _replaced(one, types) for one in arguments)]
    return annotation


def _by_name(*rows: Row) -> dict[str, Row]:
    return {row.name: row for row in rows}


RULES = _by_name(
    Row("pgd", defences.PGDTraining),
    Row("trades", defences.TradesTraining),
    Row("gaussian", defences.NoiseTraining, kept={"steps": (Literal[10], 10)}),
    Row("partial", defences.PartialTraining),
    Row("polarizing", defences.PolarizedTraining),
    Row("sparse_coding", defences.SparseCodingTraining),
    Row("hebbian", defences.HebbianTraining),
)
FRONT_ENDS = _by_name(
    Row("blur", defences.Blur),
)


def rule_of(spec: DefenceSpec | None) -> Rule:
    """The rule of an experiment's `adversarial`."""
    return Plain() if spec is None else RULES[spec.method].build(spec)


def front_end_of(network: Network) -> FrontEnd | None:
    """The front end of a network's specification, where it has one."""
    if network.blur is None and network.front_end is None:
        return None
    made = network.front_end.made if network.blur is None else defences.Blur(network.blur)
    return made.build() if isinstance(made, FrontEndSettings) else made


def transforms(rule: Rule) -> bool:
    """Whether a rule trains another network than the experiment's."""
    return type(rule).network is not Rule.network or type(rule).begin is not Rule.begin


def stages_of(experiment: Experiment) -> tuple[Stage, ...]:
    """The stages of an experiment's training.  Raises ValueError for what cannot be."""
    stages = tuple(rule_of(experiment.adversarial).stages(experiment.optimization.epochs))
    if not stages:
        raise ValueError(f"method '{experiment.adversarial.method}' has no stages")
    if stages[0].optimizer is None:
        raise ValueError(f"method '{experiment.adversarial.method}': the first stage needs an optimizer, got None")
    return stages
