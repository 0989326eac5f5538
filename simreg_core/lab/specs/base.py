"""What every specification has: frozen, validated, with a stable key.

A key is a hash of the canonical JSON without empty fields, so an optional field can be added later without
changing the keys of what has been computed before.
"""

import hashlib
import json
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from numbers import Real
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from simreg_core.lab.errors import OneLineError

# Raise when the code computes something else from the same specification: old results then no longer match.
Version = Literal[2]
COMPUTATION_VERSION: Version = get_args(Version)[0]
MOST_PROBLEMS = 20  # in one message


def no_truth(value: Any) -> Any:
    """The value itself.  Raises ValueError for true and false, which Python counts as numbers."""
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _shortest(value: Any) -> Any:
    """The number itself; of a numpy number in single precision what it prints: 0.1, not 0.10000000149."""
    value = no_truth(value)
    return float(str(value)) if isinstance(value, Real) and not isinstance(value, (int, float)) else value


def _height(value: int) -> int:
    if value < 8 and value != 1:
        raise ValueError("a height must be at least 8, or 1 of a table")
    return value


def _two_sides(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be [height, width], two whole numbers of at least 8")
    return value


def _set_name(value: str) -> str:
    if not value or PurePath(value).is_absolute() or ".." in PurePath(value).parts:
        raise ValueError("an image set must be the name of a folder in the data folder, not a path out of it")
    return value


Int = Annotated[int, BeforeValidator(no_truth)]
Float = Annotated[float, BeforeValidator(_shortest)]
# upper bounds: a slip of the pen is refused before it fills the memory, or takes a year
Size = Annotated[
    tuple[Annotated[Int, AfterValidator(_height), Field(le=1024)], Annotated[Int, Field(ge=8, le=1024)]],
    BeforeValidator(_two_sides),
]
Count = Annotated[Int, Field(ge=1, le=10_000_000)]
Seeds = Annotated[Int, Field(ge=2, le=1000)]
Width = Annotated[Int, Field(ge=1, le=1024)]
Epochs = Annotated[Int, Field(ge=1, le=100_000)]
LearningRate = Annotated[Float, Field(ge=1e-9, le=1000)]
Alpha = Annotated[Float, Field(gt=0, le=1e30)]
ImageSetName = Annotated[str, AfterValidator(_set_name)]
Epsilons = Annotated[tuple[Annotated[Float, Field(ge=0, le=1)], ...], Field(min_length=1)]
PROJECT = Path(__file__).parents[3]
PROFILES = PROJECT / "notebooks" / "profiles"
# of what needs the project's folder
INSTALLED = "simreg is installed without its profiles and notebooks; in a clone of it, run make setup or pip install -e"


def is_checkout() -> bool:
    """Whether this code lies in the project's folder, with profiles and notebooks, not among a Python's packages."""
    return PROFILES.is_dir()


def stream(seed: int, purpose: str) -> int:
    """A seed of its own for each use of randomness, so that none shifts another."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "big")


class SpecError(OneLineError):
    """A specification that cannot be; the message is one line and names each key, its value and what is allowed."""


class Spec(BaseModel):
    """A frozen specification; unknown keys and impossible values are refused.

    A number may be written as text, since YAML reads 1e-3 as such, but not as true or false.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @cached_property
    def key(self) -> str:
        """16 hex digits; equal specifications have equal keys."""
        canonical = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def changed(self, **changes: Any) -> Self:
        """A validated copy with some fields replaced."""
        return build(type(self), {**self.model_dump(), **changes})

    def faults(self) -> Iterator[str]:
        """What of its fields does not go together, each in words that name the values."""
        yield from ()

    @model_validator(mode="after")
    def _fields_go_together(self):
        if found := list(self.faults()):
            raise ValueError("; ".join(found))
        return self


AnySpec = TypeVar("AnySpec", bound=Spec)


def build(kind: type[AnySpec], values: Any, where: str = "") -> AnySpec:
    """A specification from plain values.  Raises SpecError with one line for all that is wrong."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SpecError(where + describe(error)) from error


def describe(error: ValidationError) -> str:
    """The problems of a pydantic error, in one line; of very many, the first."""
    found = error.errors()
    wrong_inside = {one["loc"][:-1] for one in found}
    # pydantic counts only the items that are right: a list of wrong ones is not too short
    kept = [one for one in found if one["type"] != "too_short" or one["loc"] not in wrong_inside]
    return in_one_line(dict.fromkeys(map(_problem, kept)))


def in_one_line(found: Iterable[str]) -> str:
    """Problems, of very many the first."""
    problems = list(found)
    more = len(problems) - MOST_PROBLEMS
    return "; ".join(problems[:MOST_PROBLEMS] + ([f"and {more} more"] if more > 0 else []))


def _problem(error: ErrorDetails) -> str:
    place, message = ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"unknown key '{place}' (value {SHORT.repr(error['input'])})"
    if error["type"] == "missing":
        return f"missing key '{place}'"
    if error["type"] == "value_error" and isinstance(error["input"], dict | Spec):  # of fields, which it names
        return f"{place}: {message}" if place else message
    if error["type"] == "tuple_type":
        message = _no_list(error["input"])
    if error["type"] == "too_short":
        least = error["ctx"]["min_length"]
        message = f"must have at least {least} item{'' if least == 1 else 's'}"
    return f"{place or 'specification'}: got {SHORT.repr(error['input'])}; {message}"


def _no_list(value: Any) -> str:
    """What is said of something else where a list is wanted."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "("):
        return "must be a list, not a text that looks like one"
    simple = isinstance(value, str | int | float) and not isinstance(value, bool)
    return f"must be a list{f' such as [{SHORT.repr(value)}]' if simple else ''}"


SHORT = reprlib.Repr()  # a value may be megabytes long
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 2, 80, 80
SHORT.maxlist = SHORT.maxtuple = SHORT.maxdict = 4


def twice(values: Iterable) -> list:
    """Those that are there more than once."""
    return [value for value, times in Counter(values).items() if times > 1]
