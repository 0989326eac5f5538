"""Specifications of defences; the fields of each come from its row of `training.rules`."""

from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, SerializeAsAny, create_model

from simreg_core.lab.specs.base import SHORT, Float, Int, Spec, SpecError, build

if TYPE_CHECKING:
    from simreg_core.defences import Rule
    from simreg_core.lab.training.rules import Row


def rules_module() -> ModuleType:
    """`training.rules`; loaded with the first defence: its rows may need torch, and its types are made from `specs`."""
    return import_module("simreg_core.lab.training.rules")


class _Defence(Spec):
    """A specification with the fields of a row of `training.rules`, whose class says what values can be."""

    @property
    def made(self) -> Any:
        """The rule, front end or settings of a front end; made anew at each call."""
        raise NotImplementedError

    def faults(self) -> Iterator[str]:
        try:
            _ = self.made
        except ValueError as error:
            yield str(error)

    def __reduce__(self):
        return _rule_or_front_end, (self.model_dump(mode="json"),)  # pickle cannot find its class by name


class DefenceSpec(_Defence):
    """How a network is trained; the other fields are the rule's.  method: name of a row of `rules.RULES`."""

    method: str

    @classmethod
    def of(cls, values: Any) -> "DefenceSpec":
        """From plain values.  Raises SpecError naming what is wrong."""
        return _of_row("RULES", "method", DefenceSpec, values)

    @property
    def made(self) -> "Rule":
        return rules_module().rule_of(self)


class FrontEndSpec(_Defence):
    """What a network sees through; the other fields are the module's.  kind: name of a row of `rules.FRONT_ENDS`."""

    kind: str

    @classmethod
    def of(cls, values: Any) -> "FrontEndSpec":
        """From plain values.  Raises SpecError naming what is wrong."""
        return _of_row("FRONT_ENDS", "kind", FrontEndSpec, values)

    @property
    def made(self) -> Any:
        return rules_module().FRONT_ENDS[self.kind].build(self)


def _of_row(table: str, tag: str, base: type[_Defence], values: Any) -> Any:
    if values is None or isinstance(values, base):
        return values
    rows: dict[str, Row] = getattr(rules_module(), table)
    name = values.get(tag) if isinstance(values, dict) else None
    if name is None:
        raise SpecError(f"a defence must name its '{tag}', one of {', '.join(rows)}; got {SHORT.repr(values)}")
    if not isinstance(name, str) or name not in rows:
        raise SpecError(f"unknown {tag} {SHORT.repr(name)}; allowed: {', '.join(rows)}")
    return build(_spec_class(rows[name], tag, base), values)


@lru_cache
def _spec_class(row: "Row", tag: str, base: type[_Defence]) -> type[_Defence]:
    """The specification of a row, with the fields of its class."""
    from simreg_core.defences import Parent as ParentType
    from simreg_core.lab.specs.training import Parent

    fields: dict[str, Any] = {
        tag: (Literal[row.name], ...),
        **row.fields({int: Int, float: Float, ParentType: Parent}),
    }
    return create_model(f"{base.__name__}_{row.name}", __base__=base, **fields)


AnyRule = Annotated[SerializeAsAny[DefenceSpec], BeforeValidator(DefenceSpec.of)]
AnyFrontEnd = Annotated[SerializeAsAny[FrontEndSpec], BeforeValidator(FrontEndSpec.of)]
# that claims name
CLAIMED_DEFENCES = ADVERSARIAL, NOISE = "adversarial training", "noise augmentation"


def _rule_or_front_end(values: Any) -> Any:
    if isinstance(values, _Defence):
        return values
    if not isinstance(values, dict) or len(values.keys() & {"method", "kind"}) != 1:
        rules, front_ends = (", ".join(rows) for rows in (rules_module().RULES, rules_module().FRONT_ENDS))
        raise SpecError(
            f"a defence is a rule, {{method: {rules}}}, or a front end, {{kind: {front_ends}}}; "
            f"got {SHORT.repr(values)}"
        )
    return DefenceSpec.of(values) if "method" in values else FrontEndSpec.of(values)


AnyDefence = Annotated[SerializeAsAny[DefenceSpec] | SerializeAsAny[FrontEndSpec], BeforeValidator(_rule_or_front_end)]
