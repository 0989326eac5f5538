"""Saved figures are whole and the same on every run; published curves are the digitized ones."""

import json
import resource
from contextlib import contextmanager
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up import attack_table, made_up
from matplotlib.layout_engine import LayoutEngine

from simreg_core.lab.claims import HOLDS, NOT_ACCEPTED, VERDICTS
from simreg_core.lab.figures.kit import (
    CHANCE,
    SEEDS,
    SENTENCES,
    finding,
    flagged_handle,
    legend_above,
    save_picture,
    save_whole,
    summarize,
    use_style,
)
from simreg_core.lab.figures.kit_attacks import (
    MAIN_LOOKS,
    ends,
    main_looks,
    published_curve,
    published_task,
    set_label,
    set_looks,
)
from simreg_core.lab.files import StoreError
from simreg_core.lab.series import LOOKS
from simreg_core.lab.specs import load_profile


def test_published_curves():
    none = published_curve(MAIN_LOOKS["none"], "gaussian")
    assert (none["x"].iloc[0], none["y"].iloc[0]) == (0, 0.88)
    assert (none["x"].iloc[-1], none["y"].iloc[-1]) == (0.1, 0.143)
    assert len(published_curve(MAIN_LOOKS["S^Th"], "fgsm")) == 10
    assert published_curve(MAIN_LOOKS["none"], "boundary")["y"].tolist() == [2.78]
    assert published_curve(MAIN_LOOKS["S^pixel"], "boundary").empty
    assert published_curve(MAIN_LOOKS["S^Th"], "uniform").empty


def test_a_set_stands_beside_the_published_one_that_plays_its_part():
    looks = set_looks(attack_table(**dict.fromkeys(["none", "photos", "photos-foreign", "digits"], 0)))
    assert published_curve(looks["photos"], "boundary")["y"].tolist() == [5.98]  # CIFAR-10 for a CIFAR-10 task
    assert published_curve(looks["photos-foreign"], "boundary")["y"].tolist() == [5.19]  # ImageNet
    assert published_curve(looks["digits"], "gaussian").empty
    without = set_looks(attack_table(none=0, photos=0), published=None)
    assert all(look.published is None for look in without.values())


def test_a_set_is_called_by_its_part_and_the_main_one_looks_as_elsewhere():
    quick = load_profile("quick")
    looks = set_looks(attack_table(**dict.fromkeys(["none", "mnist-5k", "photos-foreign", "mine"], 0)), quick)
    assert [look.label for look in looks.values()] == ["none", "own images", "photographs", "mine"]
    assert (looks["mnist-5k"].colour, looks["mnist-5k"].marker) == (LOOKS["S^Th"].colour, LOOKS["S^Th"].marker)
    assert len({look.colour for look in looks.values()}) == len({look.marker for look in looks.values()}) == 4
    assert set_label("photos-foreign", "mnist-5k") == "photographs"
    small = load_profile("cifar-small")  # its main set is another than the task's images
    looks = set_looks(attack_table(**dict.fromkeys(["none", "cifar10-jpeg75", "tiny-imagenet32-jpeg75"], 0)), small)
    assert [look.label for look in looks.values()] == ["none", "own images", "Tiny ImageNet"]
    assert looks["tiny-imagenet32-jpeg75"].colour == LOOKS["S^Th"].colour != looks["cifar10-jpeg75"].colour


def test_published_curves_are_of_the_same_task_where_there_are_any():
    assert published_curve(main_looks("MNIST")["S^Th"], "gaussian")["y"].iloc[-1] == 0.578
    assert published_curve(main_looks("MNIST")["none"], "gaussian")["x"].iloc[-1] == 0.5
    assert published_curve(main_looks("MNIST")["S^Th"], "fgsm").empty
    assert published_curve(main_looks(None)["none"], "gaussian")["y"].iloc[-1] == 0.143
    assert [published_task(task) for task in ("MNIST", "CIFAR-100", None)] == ["MNIST", "CIFAR-10", "CIFAR-10"]
    table = attack_table(**dict.fromkeys(["none", "mnist-5k", "photos-foreign"], 0))
    looks = set_looks(table, load_profile("quick"), "MNIST")
    assert published_curve(looks["mnist-5k"], "gaussian")["y"].iloc[-1] == 0.578
    assert looks["photos-foreign"].published is None


def test_summarize_averages_repeats_before_seeds():
    rows = [("a", seed, repeat, 10.0 * seed + repeat) for seed in (0, 1) for repeat in (0, 2)]
    table = pd.DataFrame(rows, columns=["series", "seed", "repeat", "value"])
    table = table.assign(attack="x", protocol="released", metric="m", attempted=5, failed=1)
    (row,) = summarize(table).to_dict("records")
    assert (row["mean"], row["sem"], row["seeds"]) == (6.0, 5.0, 2)
    assert (row["attempted"], row["failed"]) == (20, 4)


def test_saved_twice_gives_the_same_files(tmp_path):
    def save(folder):
        figure, ax = plt.subplots()
        ax.plot([0, 1], [1, 0])
        paths = save_whole(figure, tmp_path / folder / "one", pd.DataFrame({"x": [1.5]}), {"made": "here"})
        plt.close(figure)
        return [path.read_bytes() for path in paths]

    assert save("a") == save("b")
    assert json.loads((tmp_path / "a" / "one.json").read_text()) == {"made": "here"}
    assert sorted(path.suffix for path in (tmp_path / "a").iterdir()) == [".csv", ".json", ".pdf", ".png"]


def test_a_legend_above_covers_no_curve_and_the_room_has_no_ticks():
    figure, ax = plt.subplots(figsize=(3, 2))
    for name in "abc":
        ax.plot([0, 1], [1, 1], label=name)
    ax.set_ylim(0, 1.05)
    legend_above(ax, 0.6)
    figure.canvas.draw()
    assert ax.get_legend().get_window_extent().y0 > ax.transData.transform((0, 1))[1]
    assert max(ax.get_yticks()) <= 1.05
    plt.close(figure)


def test_a_users_matplotlibrc_does_not_change_the_style():
    use_style()
    own = dict(mpl.rcParams)
    try:
        mpl.rcParams.update({"text.usetex": True, "lines.linewidth": 9, "svg.hashsalt": "mine"})
        use_style()
        assert {name for name, value in mpl.rcParams.items() if value != own[name]} == set()
    finally:
        mpl.rcParams.update(own)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    figure, _ = plt.subplots()
    with pytest.raises(StoreError, match="cannot write"):
        save_whole(figure, tmp_path / "file" / "one", pd.DataFrame(), {})
    plt.close(figure)


class _Shifted(LayoutEngine):
    """A layout whose places are off by a little."""

    _adjust_compatible = False
    _colorbar_gridspec = False

    def __init__(self, layout: LayoutEngine, shift: float):
        super().__init__()
        self.layout, self.shift = layout, shift

    def execute(self, fig):
        self.layout.execute(fig)
        for ax in fig.axes:
            left, *others = ax.get_position(original=True).bounds
            ax.set_position([left + self.shift, *others])
            ax.set_in_layout(True)


@contextmanager
def no_file_larger_than(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_gets_full_in_the_midst_of_a_picture_is_named(tmp_path):
    """matplotlib may say no more than that a stream has no position."""
    use_style()
    figure, axis = plt.subplots()
    axis.set_title("with a font")
    for size in range(500, 8000, 500):
        with no_file_larger_than(size), pytest.raises(StoreError, match=r"cannot write .*one.pdf: .*File too large"):
            save_picture(figure, tmp_path / "one")
    plt.close(figure)
    assert not list(tmp_path.iterdir())


def test_a_picture_is_laid_out_once_for_all_its_files_and_last_digits_do_not_count(tmp_path):
    """The solver of the layout leaves other last digits in another process."""
    use_style()
    made = []
    for shift in (0, 1e-9):
        figure, axes = plt.subplots(1, 2)
        axes[0].set_ylabel("a label that takes room")
        layout = figure.get_layout_engine()
        figure.set_layout_engine(_Shifted(layout, shift))
        made.append([path.read_bytes() for path in save_picture(figure, tmp_path / "one")])
        assert axes[0].get_position().x0 > 0.05  # the label has its room
        plt.close(figure)
    assert made[0] == made[1]


def of_two_attacks(**more):
    bonuses = {"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1, "shuffled S^neural": 0, **more}
    return made_up("02_attack_curves", attack_table(**bonuses).assign(chance=0.1))


def test_curves_have_a_dot_for_each_seed_the_images_and_the_level_of_chance():
    figure = of_two_attacks().draw()
    gaussian, fgsm, bars = figure.axes[:3]  # the gains are below
    dots = [line for line in gaussian.lines if line.get_gid() == SEEDS]
    assert [len(line.get_xdata()) for line in dots] == [8] * 5  # four seeds at two ε, of five series
    assert sorted(dots[2].get_ydata())[-1] == pytest.approx(0.803)
    assert [len(line.get_xdata()) for line in bars.lines if line.get_gid() == SEEDS] == [4] * 5
    (chance,) = (line for line in fgsm.lines if line.get_gid() == CHANCE)
    assert list(chance.get_ydata()) == [0.1, 0.1]
    assert not [line for line in bars.lines if line.get_gid() == CHANCE]  # no accuracy
    for ax in (gaussian, fgsm, bars):
        assert "5 images" in [text.get_text() for text in ax.texts]
    plt.close(figure)


def test_committed_studies_know_the_level_of_chance():
    from simreg_core.lab.figures import figure

    table = figure("07_batch_size_study").study(load_profile("quick")).table()
    assert set(table["chance"].dropna()) == {0.1}


@pytest.mark.parametrize(
    ("bonus", "sentence"),
    [
        (2, "{} (+0.10 [+0.10, +0.10], n = 4)"),
        (0, "No effect here, within ±0.02: “{}” (+0.000 [+0.000, +0.000], n = 4)"),
        (-2, "Contradicted here: “{}” (−0.10 [−0.10, −0.10], n = 4)"),
    ],
)
def test_a_title_says_what_the_verdict_says(bonus, sentence):
    study = of_two_attacks(**{"S^Th": bonus})
    claim = r"$S^{\mathrm{Th}}$ raises accuracy under Gaussian noise"
    assert finding(study, "gaussian", width=200).startswith(sentence.format(claim))
    assert len(finding(study, "gaussian", width=30).splitlines()) > 1
    figure = study.draw()
    assert figure.get_suptitle().startswith(finding(study, "gaussian"))
    plt.close(figure)


def test_no_line_of_a_title_breaks_within_the_number_of_seeds():
    study = of_two_attacks(**{"S^Th": 2})
    for width in range(30, 130):
        assert finding(study, "gaussian", width=width).count("n = 4)") == 1


def test_a_finding_says_what_is_not_measured_and_refuses_what_there_is_not():
    strict = made_up("02_attack_curves", of_two_attacks().table().assign(protocol="strict"), "strict")
    assert finding(strict, "boundary").startswith("Not measured under protocol strict: “")
    with pytest.raises(LookupError, match="02_attack_curves has no claim 'sets'; allowed: gaussian, fgsm"):
        finding(strict, "sets")


def test_every_verdict_has_its_sentence_and_none_but_those_that_hold_states_the_claim():
    assert set(SENTENCES) == {*VERDICTS, NOT_ACCEPTED}
    bare = {verdict for verdict, sentence in SENTENCES.items() if sentence.startswith("{claim}")}
    assert bare == set(HOLDS)


@pytest.mark.parametrize(
    ("warnings", "label"), [([()], None), ([("one",), ()], "1 record"), ([("a", "b"), ("a",)], "2 records")]
)
def test_a_legend_counts_the_records_that_are_flagged(warnings, label):
    study = SimpleNamespace(records=lambda: [("", "", SimpleNamespace(warnings=own)) for own in warnings])
    assert [one.get_label() for one in flagged_handle(study)] == ([f"{label} flagged"] if label else [])


def test_the_ends_of_curves_are_a_row_each():
    study = made_up("02_attack_curves", attack_table(**{"none": 0, "S^Th": 1}))
    table = ends(study)
    assert list(table.index) == ["none", "S^Th"]
    assert list(table.columns) == [
        "no attack", "Gaussian noise, ε = 0.1", "Uniform noise, ε = 0.1", "Salt and pepper, ε = 0.1",
        "Transferred FGSM, ε = 0.1", "Boundary attack, squared L2 per pixel",
    ]  # fmt: skip
    assert table.loc["S^Th", "no attack"] == "0.802 ± 0.001"  # of seeds 0.800 to 0.803
    assert table.loc["none", "Gaussian noise, ε = 0.1"][:4] == "0.30"
