"""Profiles read from YAML files."""

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from simreg_core.lab.specs.base import INSTALLED, PROFILES, SHORT, SpecError, build, in_one_line, is_checkout
from simreg_core.lab.specs.profile import Profile, RegularizationSet
from simreg_core.lab.specs.training import Regularizer, misfit, too_many_pairs
from simreg_core.names import WIDTHS

MOST_VALUES = 100_000  # in a profile's file; those that ship have a few hundred


def load_profile(name: str | Path) -> Profile:
    """A profile that ships, by name, or a YAML file, by path.

    `extends` in a profile names another one, likewise, with paths from its own folder; the profile then says only what
    differs. Mappings are merged key by key, lists and single values replaced, and what is `null` is left out. Its name
    it gives itself.
    Raises SpecError naming what is wrong.
    """
    path = _path(str(name))
    values = _values(path)
    profile = build(Profile, values, where=f"profile {path}: ")
    found = list(_faults_of_studies(profile))
    if profile.name in _shipped() and path.resolve() != (PROFILES / f"{profile.name}.yaml").resolve():
        found.append(f"name '{profile.name}' is taken by the one that ships; give it another")
    if found:
        raise SpecError(f"profile {path}: {'; '.join(found)}")
    return profile


def _shipped() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def _path(name: str, folder: Path = Path()) -> Path:
    """The file of a profile; a relative path is one in `folder`."""
    path = PROFILES / f"{name}.yaml" if name in _shipped() else folder / name
    if path.suffix in (".yaml", ".yml") and not path.is_file():
        raise SpecError(f"profile file {path} does not exist")
    if path.suffix not in (".yaml", ".yml"):
        if not is_checkout():
            raise SpecError(f"unknown profile '{name}': {INSTALLED}; allowed here: the path of a .yaml file")
        raise SpecError(f"unknown profile '{name}'; allowed: {', '.join(_shipped())}, or the path of a .yaml file")
    return path


def _values(path: Path, children: tuple[Path, ...] = ()) -> dict:
    """What a profile's file says, together with what it extends.  children: the files that led here."""
    chain = (*children, path)
    if path.resolve() in (child.resolve() for child in children):
        raise SpecError(f"profile {chain[0]} extends itself: {' -> '.join(map(str, chain))}")
    values = _read_yaml(path)
    if not isinstance(values, dict):
        raise SpecError(f"profile {path} must be a mapping of keys to values, got {SHORT.repr(values)}")
    if (parent := values.pop("extends", None)) is None:
        return values
    if not isinstance(parent, str):
        raise SpecError(f"profile {path}: extends: must name a profile or its file, got {SHORT.repr(parent)}")
    if "name" not in values:
        raise SpecError(f"profile {path}: missing key 'name': it is not taken from '{parent}'")
    try:
        file = _path(parent, path.parent)
    except SpecError as error:
        raise SpecError(f"profile {path}: extends: {error}") from error
    return _merged(_values(file, chain), {"description": f"As '{parent}', with changes.", **values})


def _merged(parent: dict, child: dict) -> dict:
    """Both mappings in one, see `load_profile`."""
    both = dict(parent)
    for key, value in child.items():
        if isinstance(value, dict) and isinstance(parent.get(key), dict):
            both[key] = _merged(parent[key], value)
        else:
            both[key] = value
    return {key: value for key, value in both.items() if value is not None}


def _faults_of_studies(profile: Profile) -> Iterator[str]:
    """What the curves of its studies cannot be, which shows in none of its parts by itself."""
    own, sizes = profile.regularizer, profile.studies
    if own.target != "threshold":
        yield (
            f"regularizer.target: got '{own.target}'; leave it out: each figure has the targets that it compares, and "
            "S^Th is what the profile's regularizer makes"
        )
    for index, k in enumerate(sizes.pairs_per_step):
        yield from (f"studies.pairs_per_step.{index}: {fault}" for fault in too_many_pairs(k, own.count))
    for index, count in enumerate(sizes.image_counts):
        yield from (f"studies.image_counts.{index}: {fault}" for fault in too_many_pairs(own.pairs_per_step, count))
    for field in ("regularization_sets", "colour_sets"):
        for index, one in enumerate(getattr(sizes, field)):
            yield from (f"studies.{field}.{index}: {fault}" for fault in _pairs_of(one, own))
    yield from (f"studies.component_set: {fault}" for fault in _pairs_of(sizes.component_set, own))
    threshold = sizes.component_set.threshold or own.threshold
    if sizes.low_threshold >= threshold:
        yield f"studies.low_threshold: {sizes.low_threshold:g} must lie below the threshold, {threshold:g}"
    for index, one in enumerate(sizes.architectures):
        misfits = misfit(one.name, profile.task.size, one.width or WIDTHS[one.name])
        yield from (f"studies.architectures.{index}: {fault}" for fault in misfits)
    for index, one in enumerate(sizes.variants):
        yield from (f"studies.variants.{index}: {fault}" for fault in _pairs_of(one.regularization_set, own))


def _pairs_of(one: RegularizationSet, own: Regularizer) -> Iterator[str]:
    return too_many_pairs(own.pairs_per_step, one.count or own.count)


def _is_huge(values: Any) -> bool:
    """Whether there are more than `MOST_VALUES` values; aliases of aliases make a file of ten lines into billions."""
    waiting, seen = [values], 0
    while waiting and seen <= MOST_VALUES:
        one = waiting.pop()
        seen += 1
        if isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one
    return seen > MOST_VALUES


# what YAML 1.1 takes for a number of base 8 or 60, a reader for another number, or for a time
_OTHER_NUMBER = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


def _other_numbers(root: yaml.Node | None) -> Iterator[str]:
    """The numbers of a file that are not what they seem, each with its place."""
    waiting, seen = deque([("", root)]), set()
    while waiting:
        place, node = waiting.popleft()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [(f"{place}.{getattr(key, 'value', '?')}".removeprefix("."), one) for key, one in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(f"{place}.{index}", one) for index, one in enumerate(node.value)]
        elif node is not None and node.tag.endswith((":int", ":float")) and _OTHER_NUMBER.fullmatch(node.value):
            base = 60 if ":" in node.value else 8
            yield (
                f"{place}: got {SHORT.repr(node.value)}, which YAML reads in base {base}; "
                "allowed: decimal numbers, without a leading 0 or a colon"
            )


class _Loader(yaml.SafeLoader):
    """As YAML's own, but it notes every key that is given twice; YAML would take the last."""

    def __init__(self, text: str):
        super().__init__(text)
        self.twice: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, getattr(key, "value", None)
            if not isinstance(name, str):
                continue
            if name in seen:
                where = f"lines {seen[name]} and {line}" if line > seen[name] else f"line {line}"
                self.twice.append(f"key '{name}' is given twice, in {where}")
            seen[name] = line
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises SpecError where it is none, for keys given twice, and for numbers of other bases that do not look like it.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        values = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: also an impossible date or number
        raise SpecError(f"profile {path} is not YAML: {' '.join(str(error).split())}") from error
    if _is_huge(values):
        raise SpecError(f"profile {path} holds more than {MOST_VALUES:,} values; are there aliases of aliases?")
    if found := [*loader.twice, *_other_numbers(node)]:
        raise SpecError(f"profile {path}: {in_one_line(found)}")
    return values
