"""The planes of (alpha, Th) share one scale, show seeds, and say what is chosen."""

from itertools import combinations

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up import made_up
from matplotlib.text import Text

from simreg_core.lab.figures import figure
from simreg_core.lab.figures.hyperparameter_selection import ALPHA, choice_in_words, ratios_of_seeds
from simreg_core.lab.figures.kit import SEEDS, finding
from simreg_core.lab.specs import load_profile

ATTACKS = ("gaussian", "uniform", "salt_and_pepper", "fgsm")


def grid(alphas, thresholds) -> pd.DataFrame:
    """The larger alpha and Th, the more robust and the less accurate; two seeds, the second of half the accuracy."""
    pairs = [("none", None, None)]
    pairs += [(f"α = {alpha:g}, Th = {one:g}", alpha, one) for alpha in alphas for one in thresholds]
    rows = []
    for series, alpha, threshold in pairs:
        strength = 0 if alpha is None else 0.1 * alphas.index(alpha) + 0.025 * thresholds.index(threshold)
        for attack in ATTACKS:
            for seed in (0, 1):
                for epsilon, value in ((0.0, 0.8 - strength / 4), (0.5, 0.2 + strength / 4)):
                    one = {"series": series, "alpha": alpha, "threshold": threshold, "attack": attack, "seed": seed}
                    rows.append({**one, "epsilon": epsilon, "value": value / (1 + seed)})
    return pd.DataFrame(rows).assign(protocol="released", metric="accuracy", attempted=50, failed=0, condition=None)


def numbers_of(ax) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_gid() == ALPHA]


def test_all_planes_have_one_logarithmic_scale_and_the_title_names_the_choice():
    study = figure("03_hyperparameter_selection").study(load_profile("quick"))
    picture = study.draw()
    *planes, _ = picture.axes
    assert len({(ax.get_yscale(), ax.get_ylim(), ax.get_xlim()) for ax in planes}) == 1
    assert planes[0].get_yscale() == "log"
    choice, found = picture.get_suptitle().split("\n")
    assert choice == "Gaussian noise chooses α = 0.5, Th = 0.2; of 3 other attacks, 2 choose the same"
    assert found == finding(study, "consistent")
    for ax in planes[:4]:
        assert [len(line.get_xdata()) for line in ax.lines if line.get_gid() == SEEDS] == [2] * 12  # seeds
        assert sorted(numbers_of(ax)) == [*["0.1"] * 3, *["0.2"] * 3, *["0.5"] * 3, *["1"] * 3]
    assert len(numbers_of(planes[4])) == 11  # as many as the paper's plane shows
    picture.canvas.draw()
    for ax in planes:  # no number stands on another
        boxes = [Text.get_window_extent(text) for text in ax.texts if text.get_gid() == ALPHA]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2)), ax.get_title()
    plt.close(picture)


def test_ratios_of_a_seed_are_to_the_unregularized_network_of_that_seed():
    found = ratios_of_seeds(grid((1, 2), (0.2,)), "fgsm").set_index(["series", "seed"])
    for seed in (0, 1):  # both fall alike
        assert found.loc[("α = 2, Th = 0.2", seed)].tolist() == pytest.approx([0.775 / 0.8, 0.225 / 0.2])


def test_of_many_points_the_ends_of_each_line_and_the_choice_are_numbered():
    picture = made_up("03_hyperparameter_selection", grid((0.05, 0.1, 0.2, 0.5, 1), (0.1, 0.2, 0.3, 0.4))).draw()
    numbers = numbers_of(picture.axes[0])
    assert numbers.count("0.05") == numbers.count("1") == 4
    assert [one for one in numbers if one not in ("0.05", "1")] == ["0.5"]  # with Th = 0.1: 0.725 / 0.8 > 0.9
    plt.close(picture)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([(0.2, 0.8), (0.2, 0.8)], "of 2 other attacks, 2 choose the same"),
        ([(0.2, 0.8), None], "of 2 other attacks, 1 chooses the same"),
        ([(0.2, 0.6), None], "of 2 other attacks, none chooses the same"),
    ],
)
def test_the_choice_in_words(others, words):
    choices = {"uniform": others[0], "gaussian": (0.2, 0.8), "fgsm": others[1]}
    assert choice_in_words(choices) == f"Gaussian noise chooses α = 0.2, Th = 0.8; {words}"


def test_a_choice_that_accepts_nothing_is_said():
    assert choice_in_words({"gaussian": None, "fgsm": (1, 0.2)}) == "Gaussian noise accepts no pair (α, Th)"
