"""Figure 24: every defence is a row, networks are those of other figures, its claims and its picture."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
from made_up_defences import ROWS, SEEDS, study_of, table_of

from simreg_core.lab import sparse_gains
from simreg_core.lab.claims import CONTRADICTED, DIRECTION, judge
from simreg_core.lab.defences_gains import (
    BY_KEY,
    CLAIMS,
    COLUMNS,
    DIGITS,
    OWN_PGD,
    PHOTOGRAPHS,
    WITHOUT_AUTOATTACK,
    WORST,
    cells,
    details,
    ordered,
)
from simreg_core.lab.defences_study import (
    HAH,
    LENET,
    OWN_BASES,
    PARTIAL,
    POLARIZING,
    SPARSE,
    UNIT_VGG,
    base_of,
    rows_of,
)
from simreg_core.lab.figures import figure
from simreg_core.lab.figures.hebbian import WAYS
from simreg_core.lab.make.figures import studies_of
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.series import NEURAL, NONE, PIXEL, TARGETS, THRESHOLD
from simreg_core.lab.specs import ADVERSARIAL, NOISE, Experiment, SpecError, load_profile
from simreg_core.lab.training.rules import FRONT_ENDS, RULES

NAME = "24_all_defences"
GROUPS = (DIGITS, PHOTOGRAPHS)


def methods_of(experiments) -> set[str]:
    """Rules, kinds of front ends and targets that these networks are trained with."""
    found = set()
    for one in experiments:
        found |= {one.adversarial.method} if one.adversarial is not None else set()
        found |= {one.network.front_end.kind} if one.network.front_end is not None else set()
        found |= {"blur"} if one.network.blur is not None else set()  # as older specifications name it
    return found


@pytest.mark.parametrize("own", load_profile("quick").all_defences.tasks, ids=lambda own: own.name)
def test_every_defence_that_there_is_is_a_row_of_both_tasks(own):
    rows = rows_of(load_profile("quick"), own)
    assert set(rows) == {*ROWS, LENET, UNIT_VGG}
    assert methods_of(of_seed(0) for of_seed in rows.values()) == {*RULES, *FRONT_ENDS}
    targets = {one.regularizer.target for of_seed in rows.values() if (one := of_seed(0)).regularizer is not None}
    assert targets == TARGETS.keys() - {"zero", "shuffled", "shuffled_neural"}  # controls, no defences
    tasks = {of_seed(0).task for of_seed in rows.values()}
    assert len(tasks) == 1  # the same data for all


def test_networks_are_those_of_other_figures():
    """Where task, network, schedule and strength are the same, the key is; usual defences have their own strengths."""
    quick = load_profile("quick")
    elsewhere = {
        one.key
        for study in studies_of(quick)
        if study.name != NAME
        for one, _ in study.measurements()
        if isinstance(one, Experiment)
    }
    shared = {}
    for own in quick.all_defences.tasks:
        rows = rows_of(quick, own)
        shared[own.name] = {name for name, of_seed in rows.items() if of_seed(0).key in elsewhere}
        for name, of_seed in rows.items():
            assert {of_seed(seed).key in elsewhere for seed in range(SEEDS)} == {name in shared[own.name]}
    assert shared[DIGITS] == {NONE, PIXEL, THRESHOLD, NEURAL, POLARIZING, LENET}
    assert shared[PHOTOGRAPHS] == {NONE, THRESHOLD, PARTIAL, SPARSE}


@pytest.mark.parametrize("profile", ["tiny", "quick", "paper"])
def test_every_network_is_attacked_by_who_knows_it(profile, tiny):
    own = tiny if profile == "tiny" else load_profile(profile)
    for block in figure(NAME).study(own).blocks:
        ((name, (one,)),) = block.series.items()
        *common, attacked = block.evaluations
        assert [each.attack for each in common] == ["gaussian", "fgsm", "boundary", "corruption", "cost"]
        for evaluation in block.evaluations:
            lacks = kind_of(evaluation).lacks(one, evaluation, SimpleNamespace(classes=lambda name: 10))
            assert list(lacks) == []
            assert all(surrogate.task == one.task for surrogate in evaluation.surrogates_needed)
            assert one.key not in {surrogate.key for surrogate in evaluation.surrogates_needed}
        assert attacked.attack == ("code_attacks" if name == SPARSE else "front_end")
        (task,) = (task for task in own.all_defences.tasks if task.name == block.group)
        assert attacked.epsilon == task.epsilon
        assert (attacked.autoattack_images is None) or name not in WITHOUT_AUTOATTACK
        if name == POLARIZING:
            assert ("polarizer", "identity") in attacked.ways
            assert attacked.annealed
            assert attacked.surrogates[0].adversarial.until == 2
            assert attacked.certificates == (attacked.epsilon,)
        elif name == HAH:
            assert attacked.ways == WAYS
        elif name != SPARSE:
            assert attacked.ways == ()


def test_tiny_has_every_defence_and_what_the_claims_need(tiny):
    study = figure(NAME).study(tiny)
    assert set(study.series) == {*ROWS, LENET, UNIT_VGG}
    assert {block.group for block in study.blocks} == set(GROUPS)


def test_a_profile_without_it_says_so():
    with pytest.raises(SpecError, match=f"profile 'cifar-small' does not have {NAME}: its 'all_defences' is null"):
        figure(NAME).open("cifar-small")


def test_recordings_of_a_variant_are_simulated_with_its_own_images():
    quick = load_profile("quick")
    base = base_of(quick, quick.all_defences.tasks[1])
    (one, *_) = rows_of(quick, quick.all_defences.tasks[1])[NEURAL](0).regularizer.neural
    assert (one.source.images, one.source.size) == (base.task.images, base.task.size) == ("photos", (16, 16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partial": None}, "'digits': partial is given where, and only where, systems have 'partial'"),
        ({"systems": ["polarizing"]}, "'digits': partial is given where, and only where, systems have 'partial'"),
        ({"variant": "moon"}, "all_defences names variant 'moon'; allowed: digits, flipped"),
        ({"matched": {"prayer": "by hand"}}, "all_defences.matched names 'prayer', which is no row of digits"),
        ({"defences": {"S^Th": {"kind": "blur", "sigma": 1}}}, "defences of 'digits' name 'S\\^Th', which is a row"),
        ({"epsilon": 0}, "epsilon"),
        ({"name": "moons"}, "name"),
    ],
)
def test_a_task_that_cannot_be(tiny, changes, message):
    study = tiny.all_defences
    first = {**study.tasks[0].model_dump(), **changes}
    with pytest.raises(SpecError, match=message):
        tiny.changed(all_defences=study.model_dump() | {"tasks": [first, study.tasks[1].model_dump()]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"polarizing": None}, "all_defences compares 'polarizing' on digits, of which the profile has no study"),
        ({"hebbian": None}, "all_defences compares 'HaH' on digits, of which the profile has no study"),
    ],
)
def test_a_system_needs_its_study(tiny, changes, message):
    with pytest.raises(SpecError, match=message):
        tiny.changed(**changes)


def test_names_are_those_of_other_figures():
    assert sparse_gains.SPARSE == SPARSE
    assert OWN_PGD[SPARSE] == sparse_gains.AUTHORS
    assert OWN_PGD[HAH] == ": ".join(WAYS[0])


def test_claims_hold_where_they_should_and_fail_where_they_should_not():
    for good in (True, False):
        table = table_of(good)
        for claim in CLAIMS:
            values = claim.measure(table)
            assert len(values) == SEEDS
            assert (values > 0).all() == good, claim.key
    found = {claim.key: claim.measure(table_of()).mean() for claim in (*CLAIMS, *details(table_of()))}
    assert found["all-digits"] == pytest.approx(0.4)
    mine = 0.4 - 0.1
    others = {PARTIAL: 0.3 - 0.1, POLARIZING: 0.22 - 0.08, SPARSE: 0.05 - 0.1, HAH: 0.15 - 0.05}  # over their own bases
    assert found["all-structural"] == pytest.approx(mine - sum(others.values()) / 4)
    assert found["photographs-over-HaH"] == pytest.approx(mine - others[HAH])
    assert "digits-none" not in found


def test_a_defence_that_surely_withstands_more_contradicts_the_claim():
    (claim,) = (one for one in CLAIMS if one.key == "all-structural")
    table = table_of()

    def verdict() -> str:
        return judge(claim, claim.measure(table), parts=claim.parts(table)).verdict

    assert verdict() == DIRECTION
    better = (table["series"] == HAH) & (table["condition"] == WORST) & (table["group"] == DIGITS)
    table.loc[better, "value"] = [0.9, 0.91, 0.92, 0.9, 0.9]
    assert verdict() == CONTRADICTED


def test_the_picture_has_every_row_in_the_same_order_in_all_columns():
    table = table_of()
    study = study_of(table)
    picture = study.draw()  # which raises for a series that it leaves out
    order = [ADVERSARIAL, "TRADES", THRESHOLD, NOISE]
    assert ordered(table, DIGITS)[:4] == order
    assert len(picture.axes) == 2 * 10
    (clean, *_) = picture.axes
    assert len(clean.get_yticklabels()) == len(ROWS)
    for ax in picture.axes:
        drawn = [line.get_gid() for line in ax.lines if line.get_gid() in ROWS]
        assert drawn[:2] == order[:2]
    worst, _, autoattack, _, inference = picture.axes[5:10]
    assert [text.get_text() for text in autoattack.texts] == ["quantized"] * 2
    assert [line.get_gid() for line in worst.lines].count("certified") == 1
    flags = [text.get_text() for text in inference.texts]
    assert flags.count("2") == 1
    assert flags.count("0") == len(ROWS) - 1
    assert picture.get_suptitle().startswith("On digits adversarial training withstands more than")
    plt.close(picture)


def test_the_csv_has_every_number_with_its_interval():
    numbers = study_of(table_of()).numbers()
    own = numbers[(numbers["task"] == DIGITS) & (numbers["defence"] == POLARIZING)].set_index("quantity")
    assert set(own.index) == {*BY_KEY, "flags"} - {"autoattack"}
    assert own.loc["worst", "mean"] == pytest.approx(0.24)
    assert own.loc["worst", "low"] < 0.24 < own.loc["worst", "high"]
    assert own.loc["flags", "mean"] == 2
    assert set(own["compared_with"]) == {LENET}
    assert own.loc["training", "mean"] == 1.5
    assert set(numbers["defence"]) == {*ROWS, LENET, UNIT_VGG}


def test_a_column_that_was_not_measured_is_empty():
    found = cells(table_of(), DIGITS)
    assert len(found["certified", NONE]) == len(found["autoattack", SPARSE]) == 0
    assert len(found["certified", POLARIZING]) == SEEDS
    assert {column.key for column in COLUMNS} == set(BY_KEY)
    assert set(OWN_BASES.values()) == {LENET, UNIT_VGG}


def test_quick_has_as_many_seeds_as_its_claims_plan():
    planned = {one.seeds for one in (*CLAIMS, *details(table_of()))}
    assert planned == {load_profile("quick").all_defences.seeds}
