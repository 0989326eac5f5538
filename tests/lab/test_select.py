"""Choosing by the paper's criterion, and whether attacks rank the pairs alike."""

import pandas as pd
import pytest

from simreg_core.lab import recipes, select
from simreg_core.lab.figures import figure
from simreg_core.lab.specs import DefenceSpec, SpecError


def selection_table(alpha=None, threshold=None, **accuracies):
    """alpha, threshold: of the series; of those that are not named, None."""
    rows = [
        {"series": name, "attack": "gaussian", "epsilon": epsilon, "seed": seed, "value": value}
        for name, pair in accuracies.items()
        for epsilon, value in zip((0.0, 0.1), pair, strict=True)
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows)
    numbers = {"alpha": alpha or {}, "threshold": threshold or {}}
    return table.assign(**{name: table["series"].map(values) for name, values in numbers.items()})


def test_selection_follows_the_papers_criterion():
    table = selection_table(none=(0.8, 0.4), strong=(0.6, 0.6), good=(0.76, 0.5), mild=(0.8, 0.42), worse=(0.8, 0.3))
    ratios = select.selection_ratios(table).set_index("series")
    assert ratios["clean"].round(3).to_dict() == {"strong": 0.75, "good": 0.95, "mild": 1.0, "worse": 1.0}
    assert ratios["accepted"].to_dict() == {"strong": False, "good": True, "mild": True, "worse": False}
    assert ratios.index[ratios["chosen"]].tolist() == ["good"]


def test_selection_accepts_none_where_none_qualifies():
    ratios = select.selection_ratios(selection_table(none=(0.8, 0.4), bad=(0.5, 0.5)))
    assert not ratios["chosen"].any()


def test_selection_measures_validation_images_only(tiny):
    (block,) = figure("03_hyperparameter_selection").study(tiny).blocks
    assert {evaluation.split for evaluation in block.evaluations} == {"validation"}
    assert {evaluation.attack for evaluation in block.evaluations} == {"gaussian", "uniform", "salt_and_pepper", "fgsm"}


def test_the_chosen_pair_comes_back_as_numbers():
    numbers = {"alpha": {"strong": 4, "weak": 0.05}, "threshold": {"strong": 0.6, "weak": 0.8}}
    table = selection_table(**numbers, none=(0.8, 0.4), strong=(0.78, 0.6), weak=(0.8, 0.5))
    assert select.chosen_pair(table) == (4, 0.6)
    assert select.chosen_pair(selection_table(**numbers, none=(0.8, 0.4), strong=(0.1, 0.1))) is None


def test_the_matched_alpha_is_that_of_the_nearest_clean_accuracy():
    table = selection_table(
        alpha={"S^Th": 0.5, "weak": 1, "middle": 4, "strong": 16},
        **{"S^Th": (0.70, 0.6), "weak": (0.80, 0.6), "middle": (0.68, 0.1), "strong": (0.5, 0.6)},
    ).assign(metric="accuracy")
    alpha, accuracies = select.matched_alpha(table)
    assert alpha == 4
    assert accuracies.set_index("series")["distance"].round(3).to_dict() == {
        "S^Th": 0.0, "weak": 0.1, "middle": 0.02, "strong": 0.2,
    }  # fmt: skip


def test_the_matched_grid_is_of_the_control_on_validation_images(tiny):
    (block,) = select.matched_grid(tiny, "all targets 0")
    assert [one[0].regularizer.alpha for one in block.series.values()] == [tiny.regularizer.alpha, 0.1, 0.2]
    assert [one[0].regularizer.target for one in block.series.values()] == ["threshold", "zero", "zero"]
    assert {(one.split, one.epsilons) for one in block.evaluations} == {("validation", (0.0, 0.3))}


def test_the_grid_of_a_defence_is_its_strengths_on_validation_images(tiny):
    (block,), strengths = select.matched_defences(tiny, "blur", tiny.defences["blur"], (0.5, 2))
    assert strengths == {"blur, sigma = 0.5": 0.5, "blur, sigma = 2": 2}
    assert list(block.series) == ["S^Th", *strengths]
    assert [one[0].network.blur for one in list(block.series.values())[1:]] == [0.5, 2]
    assert {(one.split, one.epsilons) for one in block.evaluations} == {("validation", (0.0, 0.3))}
    spec = tiny.defences["TRADES"]
    (block,), strengths = select.matched_defences(tiny, "TRADES", spec, (1, 6))
    assert [one[0].adversarial.beta for one in list(block.series.values())[1:]] == [1, 6]
    assert block.series["TRADES, beta = 6"][0] == recipes.defended(tiny, spec, 0)  # that of figure 14


def test_a_defence_without_a_strength_has_no_grid(tiny):
    spec = DefenceSpec.of({"method": "polarizing", "threshold": 0.5})
    with pytest.raises(
        SpecError, match="'polarizing' \\(polarizing\\) has no strength to choose; those of pgd, trades"
    ):
        select.matched_defences(tiny, "polarizing", spec, (0.1,))
    with pytest.raises(SpecError, match="epsilon"):
        select.matched_defences(tiny, "noise", tiny.defences["noise augmentation"], (2.0,))


def test_the_matched_strength_is_that_of_the_nearest_clean_accuracy():
    table = selection_table(**{"S^Th": (0.70, 0.6), "weak": (0.8, 0.6), "strong": (0.68, 0.1)}).assign(
        metric="accuracy"
    )
    strength, accuracies = select.matched_strength(table, {"weak": 0.1, "strong": 0.4})
    assert strength == 0.4
    assert accuracies.columns.tolist() == ["series", "strength", "clean", "distance"]


def test_rank_correlations_of_attacks_that_agree_and_that_do_not():
    names = [f"α = {alpha}, Th = 0.8" for alpha in (1, 2, 3, 4)]
    rows = []
    for attack, order in (("gaussian", (1, 2, 3, 4)), ("uniform", (10, 20, 21, 22)), ("fgsm", (4, 3, 2, 1))):
        for seed in (0, 1):
            rows.append(("none", attack, 0.1, seed, 0.0))
            rows += [(name, attack, 0.1, seed, value / 100) for name, value in zip(names, order, strict=True)]
            rows += [(name, attack, 0.0, seed, 0.9) for name in names]  # clean accuracy does not matter
    table = pd.DataFrame(rows, columns=["series", "attack", "epsilon", "seed", "value"])
    found = select.rank_correlations(table).groupby("attack")["correlation"].mean()
    assert found.to_dict() == pytest.approx({"uniform": 1, "fgsm": -1})
