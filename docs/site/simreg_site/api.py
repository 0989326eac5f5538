"""The pages of public names: written before each build into docs/site/api/, from what the package exports."""

import ast
import inspect
import pkgutil
import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import simreg_core
from simreg_site import ROOT, SITE
from simreg_site.docstrings import as_rest

LOG = logging.getLogger(__name__)
PAGES = SITE / "api"
LONGEST_VALUE = 160
# of the laboratory: what notebooks, examples and additions call
LABORATORY = (
    "figures", "study", "claims", "gains", "series", "recipes", "specs", "select", "images", "image_files",
    "recordings", "store", "records", "measuring.registry", "measuring.subject", "training.rules", "weights",
    "own_network", "own_inputs", "report",
)  # fmt: skip


def modules() -> list[str]:
    """The method's modules and packages, submodules that a package exports, and LABORATORY."""
    names = []
    for found in pkgutil.iter_modules(simreg_core.__path__, "simreg_core."):
        if found.name.rpartition(".")[2] not in ("lab", "later", "__main__"):
            names += [found.name, *(f"{found.name}.{part}" for part in _exported_modules(import_module(found.name)))]
    return [*names, *(f"simreg_core.lab.{name}" for name in LABORATORY)]


def public(module: ModuleType) -> list[str]:
    """The public names of a module that are no modules: its `__all__`, else what its file defines.

    Of a package also what it imports `as` itself.
    """
    names = getattr(module, "__all__", None) or _defined(module)
    return [name for name in dict.fromkeys(names) if not isinstance(getattr(module, name, None), ModuleType)]


def _exported_modules(module: ModuleType) -> list[str]:
    if not hasattr(module, "__path__"):
        return []
    return [name for name in _defined(module) if isinstance(getattr(module, name, None), ModuleType)]


def _defined(module: ModuleType) -> list[str]:
    """Names without an underscore that a module's file defines; of a package also those of `import x as x`."""
    names = []
    for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom) and hasattr(module, "__path__"):
            names += [one.asname for one in node.names if one.asname == one.name]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def page(name: str) -> str:
    """The page of a module, as MyST."""
    module = import_module(name)
    names = public(module)
    for one in names:  # autodoc finds only what is there already, and some names are loaded with their first use
        vars(module)[one] = getattr(module, one)
    values = [one for one in names if not _has_signature(getattr(module, one))]
    described = ", ".join(one for one in names if one not in values)
    block = f".. automodule:: {name}\n   :members: {described}\n   :undoc-members:\n   :member-order: bysource\n"
    block += f"\n.. py:currentmodule:: {name}\n" + "".join(_value(one, getattr(module, one)) for one in values)
    links = " · ".join(f"{{py:obj}}`{one} <{name}.{one}>`" for one in names)
    file = Path(module.__file__).relative_to(ROOT).as_posix()
    return f"# {name}\n\n{links}\n\nFile: `{file}`\n\n```{{eval-rst}}\n{block}```\n"


def _has_signature(thing: object) -> bool:
    """Whether a name is a class or a function; names of types such as `list[int]` can be called, but are values."""
    return inspect.isclass(thing) or inspect.isroutine(thing) or hasattr(thing, "__wrapped__")


def _value(name: str, value: object) -> str:
    """A constant; autodoc leaves out those without a text, and would give them the text of their type."""
    shown = repr(value)
    short = len(shown) <= LONGEST_VALUE and " at 0x" not in shown and "\n" not in shown
    return f"\n.. py:data:: {name}\n" + (f"   :value: {shown}\n" if short else "")


def first_page() -> str:
    """The page of `simreg_core`: each name with a link to where it is described."""
    rows = []
    for name in simreg_core.__all__:
        thing = getattr(simreg_core, name)
        home = thing.__name__ if isinstance(thing, ModuleType) else f"{thing.__module__}.{name}"
        link = f"[{name}]({home}.md)" if isinstance(thing, ModuleType) else f"{{py:obj}}`{name} <{home}>`"
        rows.append(f"| {link} | {_first_sentence(thing)} |")
    head = "What `from simreg_core import ...` gives. Each name is loaded when it is first used."
    return "\n".join(["# simreg_core", "", head, "", "| name | |", "| --- | --- |", *rows, ""])


def _first_sentence(thing: object) -> str:
    return re.split(r"\n\n|(?<=\.) (?=[A-Z])", thing.__doc__)[0].replace("\n", " ").replace("|", "\\|").rstrip(":")


def write_pages(app: Sphinx) -> None:
    """Write a page for each module; pages of modules that are gone are deleted."""
    PAGES.mkdir(exist_ok=True)
    texts = {PAGES / f"{name}.md": page(name) for name in modules()} | {PAGES / "simreg_core.md": first_page()}
    for path in set(PAGES.glob("*.md")) - set(texts):
        path.unlink()
    for path, text in texts.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def check_names(app: Sphinx, env: BuildEnvironment) -> None:
    """A warning, and so an error, for each public name that the pages do not describe."""
    described = env.domains["py"].objects
    for name in modules():
        for one in public(import_module(name)):
            if f"{name}.{one}" not in described:
                LOG.warning("%s.%s is on no page of public names", name, one)


def names_of(thing: object) -> set[str]:
    """The parameters of a function or class, and the fields of a class."""
    names = set(getattr(thing, "__annotations__", {}))
    with suppress(TypeError, ValueError):  # what has no signature, such as a number
        names |= set(inspect.signature(thing).parameters)
    return names | (set(vars(thing)) if inspect.isclass(thing) else set())


def process(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Called by autodoc with each docstring."""
    lines[:] = [] if lines and lines[0].startswith("Alias for field number") else as_rest(lines, names_of(thing))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    app.connect("env-check-consistency", check_names)
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
