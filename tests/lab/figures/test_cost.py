"""The record of what a step costs: drawn as it was measured, and found by what it times."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import in_this_process

from simreg_core.lab.figures import figure
from simreg_core.lab.figures.kit import SEEDS, finding
from simreg_core.lab.figures.kit_cost import ratios_over_repeats, step_costs
from simreg_core.lab.running.compute import _stages, compute, missing_image_sets
from simreg_core.lab.running.estimate import Costs
from simreg_core.lab.running.plan import plan
from simreg_core.lab.specs import load_profile
from simreg_core.lab.store import Store


def test_costs_are_a_record_that_is_measured_once(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path))
    study = figure("16_cost").study(tiny)
    todo = plan(study.measurements(), study.store)
    assert todo.trainings == ()
    assert len(todo.measurements) == 1
    compute(todo, study.store, "test", executor=in_this_process)
    assert not plan(study.measurements(), study.store)
    costs = step_costs(study)
    assert [row["k"] for row in costs["rows"]] == [0, 2, 4]
    assert [row["predicted"] for row in costs["rows"]] == [1, 68 / 64, 72 / 64]
    assert all(len(row["ratios"]) == 5 for row in costs["rows"])
    saved = [row["saved_bytes"] for row in costs["rows"]]
    assert saved == sorted(set(saved))  # the more pairs, the more
    assert [row["N"] for row in costs["image_counts"]] == [10, 20, 40, 100, 300]
    held = [row["held_bytes"] for row in costs["image_counts"]]
    # the ternary target matrix, a byte a value, and the images, float32; the running means are the same for every N
    assert held[-1] - held[0] == 300**2 - 10**2 + 4 * (300 - 10) * 256
    assert not (tmp_path / "experiments").exists()


def test_costs_are_keyed_by_what_they_time(tiny):
    def key(profile):
        ((one, evaluation),) = figure("16_cost").study(profile).measurements()
        return one.key, evaluation.key

    same = tiny.changed(seeds=5, pixel_alpha=0.5, regularizer=tiny.regularizer.changed(alpha=0.3, threshold=0.4))
    assert key(same) == key(tiny)
    for other in (
        tiny.changed(network=tiny.network.changed(width=16)),
        tiny.changed(optimization=tiny.optimization.changed(batch_size=32)),
        tiny.changed(studies=tiny.studies.changed(pairs_per_step=(2, 8))),
        tiny.changed(studies=tiny.studies.changed(image_counts=(10, 20, 30))),
    ):
        assert key(other) != key(tiny)
    batch = [one for one in figure("07_batch_size_study").study(tiny).measurements() if one[1].times_steps]
    assert [(one.key, evaluation.key) for one, evaluation in batch] == [key(tiny)]


def test_the_committed_costs_are_those_that_were_measured():
    costs = step_costs(figure("07_batch_size_study").study(load_profile("quick")))
    assert costs["device"] == "cpu (Intel(R) Xeon(R) Processor)"
    assert [row["k"] for row in costs["rows"]] == [0, 4, 16, 32]
    assert costs["rows"][1]["seconds"] == 0.04339012799755437
    assert costs["rows"][2]["ratio"] == pytest.approx(1.84193395)
    assert costs["rows"][3]["saved_bytes"] == 44524056
    with pytest.raises(LookupError, match="02_attack_curves times no training step"):
        step_costs(figure("02_attack_curves").study(load_profile("quick")))


def test_a_plan_times_its_steps_last_and_needs_no_images_for_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    away = tiny.changed(task=tiny.task.changed(images="nowhere"))
    study = figure("16_cost").study(away)
    store = Store(tmp_path / "runs")
    todo = plan(study.measurements(), store)
    assert missing_image_sets(todo) == []
    both = plan([*study.measurements(), *figure("02_attack_curves").study(tiny).measurements()], store)
    costs = Costs()
    monkeypatch.setattr(costs, "_step", lambda _: 1.0)
    monkeypatch.setattr(costs, "_fit", lambda _: 1.0)
    stages = _stages(both, store, costs)
    assert [task[1][1].attack for task in stages[-1]] == ["step_cost"]
    assert all(not task[1][1].times_steps for stage in stages[2:-1] for task in stage)


def test_each_panel_has_one_unit_and_the_title_is_the_verdict():
    study = figure("16_cost").study(load_profile("quick"))
    picture = study.draw()
    assert picture.get_suptitle() == finding(study, "cost")
    assert picture.get_suptitle().endswith("n = 5 measurements)")
    units = [unit for ax in picture.axes for unit in ("= 1)", "(ms)", "(MiB)") if unit in ax.get_ylabel()]
    assert units == ["= 1)", "= 1)", "(ms)", "(MiB)"]
    milliseconds, mebibytes = (ax.lines[0].get_ydata() for ax in picture.axes[2:])
    counts = step_costs(study)["image_counts"]
    assert list(milliseconds) == [one["seconds"] * 1e3 for one in counts]
    assert list(mebibytes) == [one["held_bytes"] / 2**20 for one in counts]
    plt.close(picture)


def test_time_has_an_interval_over_repeats_and_a_dot_for_each():
    study = figure("16_cost").study(load_profile("quick"))
    rows, means = step_costs(study)["rows"], ratios_over_repeats(step_costs(study))
    last = np.array(rows[-1]["ratios"])
    reach = 2.776 * last.std(ddof=1) / np.sqrt(5)  # 2.776: of the t distribution, 4 degrees of freedom
    expected = [last.mean(), last.mean() - reach, last.mean() + reach]
    assert list(means.iloc[-1][["ratio_mean", "ratio_low", "ratio_high"]]) == pytest.approx(expected, rel=1e-3)
    picture = study.draw()
    time = picture.axes[0]
    (bars,) = time.containers[0].lines[2]
    assert bars.get_segments()[-1][:, 1] == pytest.approx(expected[1:], rel=1e-3)
    dots = [line for line in time.lines if line.get_gid() == SEEDS]
    assert [list(line.get_ydata()) for line in dots] == [row["ratios"] for row in rows[1:]]
    against_k = study.numbers().query("against == 'k'")
    assert against_k["ratio_high"].tolist() == means["ratio_high"].tolist()
    plt.close(picture)
