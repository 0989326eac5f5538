"""The site: results are read, never written by hand; what is missing is an error; every public name has a page."""

import json
import re
import shutil
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from simreg_site import results
from simreg_site.docstrings import as_rest
from simreg_site.links import faults
from simreg_site.reading import alternative

import simreg_core
from simreg_core.lab.figures import FIGURES

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def copy(tmp_path) -> Path:
    """A folder with the results of quick, to take some away."""
    quick = tmp_path / "figures" / "quick"
    quick.mkdir(parents=True)
    for path in (PROJECT / "figures" / "quick").glob("*.json"):
        shutil.copy(path, quick)
        (quick / f"{path.stem}.png").write_bytes(b"")
    return tmp_path


def rewrite(path: Path, change) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_a_caption_says_the_verdict_of_the_figures_numbers(copy):
    path = copy / "figures" / "quick" / "02_attack_curves.json"

    def change(made: dict) -> dict:
        made["claims"] = [
            {**one, "verdict": "contradicted", "estimate": -0.25, "low": -0.5, "high": -0.125} for one in made["claims"]
        ]
        return made

    rewrite(path, change)
    lines = results.caption(copy, "02_attack_curves")
    assert len(lines) == len(FIGURES["02_attack_curves"].claims)
    assert lines[0].startswith(
        "S{sup}`Th` raises accuracy under Gaussian noise: **contradicted**, −0.250 [−0.500, −0.125]"
    )


@pytest.mark.parametrize("ending", ["png", "json"])
def test_a_figure_that_is_missing_is_an_error(copy, ending):
    (copy / "figures" / "quick" / f"05_common_corruptions.{ending}").unlink()
    with pytest.raises(results.MissingResult, match=rf"figures/quick/05_common_corruptions\.{ending} is missing"):
        results.caption(copy, "05_common_corruptions")


def test_a_verdict_that_is_missing_is_an_error(copy):
    quick = copy / "figures" / "quick"
    rewrite(quick / "08_image_count_study.json", lambda made: {**made, "claims": made["claims"][1:]})
    with pytest.raises(results.MissingResult, match=r"08_image_count_study\.json has no verdict of the claim"):
        results.caption(copy, "08_image_count_study")
    not_measured = {"verdict": "not measured", "n": None}
    rewrite(
        quick / "claims.json",
        lambda rows: [row | not_measured if row["key"] == "count-suffices" else row for row in rows],
    )
    assert results.caption(copy, "08_image_count_study")[0].endswith(": **not measured**")
    rewrite(quick / "claims.json", lambda rows: [row for row in rows if row["key"] != "gaussian"])
    for call in (lambda: results.verdict_words(copy, "gaussian"), lambda: results.table_rows(copy)):
        with pytest.raises(results.MissingResult, match=r"figures/quick/claims\.json has no claim 'gaussian'"):
            call()


def test_the_table_has_a_row_for_every_claim_of_quick():
    rows = results.table_rows(PROJECT)
    claims = [claim for name in results.figures_of("quick") for claim in FIGURES[name].claims]
    assert len(claims) > 30
    assert len([row for row in rows if row[2] == "quick"]) >= len(claims)
    assert {len(row) for row in rows} == {len(results.TABLE_HEAD)}
    assert results.TABLE_HEAD[:3] == ("claim", "verdict", "profile")  # what a phone shows
    known = {row["key"]: row["verdict"] for row in results.claims_of(PROJECT, "quick")}
    assert rows[0][1] == known["pixel-neural"]


PAGE = "# Page\n\n```{{finding}} {figure}\n```\n\n{{verdict}}`{key}`\n"


@pytest.mark.parametrize(
    ("figure", "key", "said"),
    [
        ("02_attack_curves", "gaussian", None),
        ("99_toy", "gaussian", "unknown figure '99_toy'"),
        ("02_attack_curves", "toy", "figures/quick/claims.json has no claim 'toy'"),
    ],
)
def test_a_page_that_names_what_is_missing_fails(figure, key, said, tmp_path):
    from sphinx.application import Sphinx

    (tmp_path / "index.md").write_text(PAGE.format(figure=figure, key=key))
    for folder in ("figures/quick", "notebooks"):  # what the picture and its link lead to
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(PROJECT / "figures" / "quick" / "02_attack_curves.png", tmp_path / "figures" / "quick")
    (tmp_path / "notebooks" / "02_attack_curves.ipynb").write_text("{}")
    settings = {
        "extensions": ["myst_parser", "simreg_site.reading"],
        "include_patterns": ["index.md"],
        "html_theme": "basic",
    }
    out = tmp_path / "out"
    warnings = (tmp_path / "warnings").open("w+")
    Sphinx(tmp_path, None, out, out, "html", settings, status=None, warning=warnings, freshenv=True).build()
    warnings.seek(0)
    text = warnings.read()
    assert (said in text) if said else (text == "")
    if said is None:
        assert "not measured" not in (out / "index.html").read_text()
        assert "[−" in (out / "index.html").read_text()


def test_faults_of_pages_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">x</a><a href="b.html#nowhere">x</a><a href="c.html">x</a><a href="https://far.org">x</a>'
        '<img src="d.png" alt="a curve"><img src="b.html"><img src="b.html" alt="b.html"><script src="https://far.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="there">x</p><a href="#gone">x</a>')
    assert faults(tmp_path) == [
        "a.html: b.html#nowhere has no such place",
        "a.html: c.html does not exist",
        "a.html: d.png does not exist",
        "a.html: loads https://far.org/x.js from the network",
        "a.html: picture b.html has no alt text",
        "b.html: #gone has no such place",
    ]


def test_every_picture_has_words_for_those_who_cannot_see_it():
    pages = {path: path.read_text() for path in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md"))}
    for path in (PROJECT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        pages[path] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        outputs = [output["data"] for cell in cells for output in cell.get("outputs", ()) if "data" in output]
        pages[path] += "\n".join("".join(data.get("text/html", "")) for data in outputs)
    pages |= {PROJECT / "gallery" / name: f"![{alternative(name)}]()" for name in results.figures_of("quick")}
    found = 0
    for path, text in pages.items():
        pictures = re.findall(r"<img\b[^>]*>", text)
        words = [re.findall(r'\balt="([^"]*)"', one) for one in pictures]
        assert all(words), f"{path.name}: a picture without alt"
        words = [*(one for (one,) in words), *re.findall(r"!\[([^]]*)\]\(", text)]
        assert [one for one in words if len(one.split()) < 2 or "/" in one] == [], path.name
        found += len(words)
    assert found > 40


DOCSTRING = """An attack on *nothing*, in one_line with a `code`.

model, images: see
    `door.opened`.  epsilon: at least 0.
steps: a | b, kind_
Returns [n] in [0, 1].

| file | what |
| --- | --- |
| `a` | b |

    x = 1  # kept as it is"""


def test_docstrings_become_rest():
    assert as_rest(DOCSTRING.splitlines(), {"model", "images", "epsilon", "steps"}) == [
        r"An attack on \*nothing\*, in one_line with a ``code``.",
        "",
        "* **model, images**: see ``door.opened``.",
        "",
        "* **epsilon**: at least 0.",
        "",
        r"* **steps**: a \| b, kind\_",
        "",
        "**Returns** [n] in [0, 1].",
        "",
        *(".. list-table::", "   :header-rows: 1", "", "   * - file", "     - what", "   * - ``a``", "     - b"),
        "",
        *(".. code-block:: python", "", "    x = 1  # kept as it is"),
        "",
    ]


def test_every_public_name_has_a_page():
    from simreg_site.api import first_page, modules, page

    pages = {name: page(name) for name in modules()}
    files = {path.stem for path in (PROJECT / "simreg_core").glob("[a-z]*.py")} - {"later"}
    assert {f"simreg_core.{name}" for name in files} <= set(pages)
    for name in simreg_core.__all__:
        assert name in first_page()
    for package in ("attacks", "defences", "neural"):
        module = import_module(f"simreg_core.{package}")
        for name in getattr(module, "__all__", ["gaussian_noise"] if package == "attacks" else ["V1Predictor"]):
            assert f"<{module.__name__}.{name}>" in pages[module.__name__]
    assert ".. py:data:: NORMS\n   :value: ('linf'" in pages["simreg_core.attacks"]


def test_codecheck_names_every_drawn_figure():
    listed = {one["file"] for one in yaml.safe_load((PROJECT / "codecheck.yml").read_text())["manifest"]}
    assert all((PROJECT / path).is_file() for path in listed)
    patterns = ("figures/*/*.png", "figures/*/small/*.png", "figures/*/claims.json", "weights/*/card.json")
    made = {path.relative_to(PROJECT).as_posix() for pattern in patterns for path in PROJECT.glob(pattern)}
    assert len(made) > 30
    assert made - listed == set()


def test_the_licence_of_every_dependency_is_named():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.match(r"[A-Za-z0-9-]+", one).group() for one in wanted} - {"simreg"}
    table = (PROJECT / "docs" / "licences.md").read_text().split("\n## Packages\n")[1]
    assert names - set(re.findall(r"[\w-]+", table)) == set()
