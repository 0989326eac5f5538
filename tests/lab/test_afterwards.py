"""What was asked for afterwards has an interval, no verdict, and a place on the page of claims."""

import numpy as np
import pandas as pd
import pytest
from made_up import attack_table, made_up

from simreg_core.lab.afterwards import Afterwards, afterwards
from simreg_core.lab.claims import interval_of
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.make.claims_table import afterwards_markdown

RATIOS = pd.Series([0.5, 2.0, 8.0])


def asked(values: pd.Series, **more) -> Afterwards:
    return Afterwards(key="one", statistic="a ratio", measure=lambda table: values, **more)


@pytest.fixture
def study():
    return made_up("02_attack_curves", attack_table(none=0, **{"S^pixel": 1, "S^Th": 3}))


def test_a_number_has_its_interval_and_seeds(study):
    (found,) = afterwards(study, [asked(RATIOS)])["afterwards"]
    assert found["estimate"] == pytest.approx(3.5)
    assert (found["low"], found["high"]) == pytest.approx(interval_of(RATIOS)[1:])
    assert (found["key"], found["statistic"], found["n"]) == ("one", "a ratio", 3)
    assert "verdict" not in found


def test_ratios_have_a_geometric_mean(study):
    (found,) = afterwards(study, [asked(RATIOS, geometric=True)])["afterwards"]
    _, low, high = interval_of(np.log(RATIOS))
    assert found["estimate"] == pytest.approx(2.0)
    assert (found["low"], found["high"]) == pytest.approx((np.exp(low), np.exp(high)))


def test_what_is_not_measured_yet_is_left_out(study):
    def missing(table):
        raise LookupError("no measurement")

    absent = Afterwards(key="absent", statistic="none", measure=missing)
    assert afterwards(study, [absent, asked(RATIOS[:2])]) == {}
    assert afterwards_markdown({"02_attack_curves": {}}) == ""


def test_figure_02_sets_the_targets_side_by_side_under_every_attack(study):
    found = {one["key"]: one["estimate"] for one in FIGURES["02_attack_curves"].notes(study)["afterwards"]}
    assert found == pytest.approx(
        {"fgsm-over-pixel": 0.1, "clean-over-pixel": 0.0, "boundary-geometric": 1.3, "boundary-over-pixel": 1.18},
        abs=0.02,
    )


def test_the_page_names_the_notebook_and_says_that_nothing_rests_on_it(study):
    page = afterwards_markdown({"02_attack_curves": FIGURES["02_attack_curves"].notes(study)})
    assert "No verdict rests on them." in page
    assert "- Notebook 02: clean accuracy, S^Th minus S^pixel, 0.000 [0.000, 0.000], n = 4\n" in page
