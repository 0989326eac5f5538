"""Parts of the target and controls differ from it in one thing, and are all drawn."""

import matplotlib.pyplot as plt
from made_up import attack_table, made_up

from simreg_core.lab import series
from simreg_core.lab.figures import figure


def test_parts_and_controls_differ_from_the_target_in_one_thing(tiny):
    (block,) = figure("11_target_components").study(tiny).blocks
    whole = block.series[series.THRESHOLD][0].regularizer
    changes = {
        label: {name: value for name, value in one[0].regularizer if getattr(whole, name) != value}
        for label, one in block.series.items()
        if label not in (series.NONE, series.THRESHOLD)
    }
    assert changes == {
        series.PIXEL: {"target": "pixel"},
        series.LOW: {"pairs": "low"},
        series.HIGH: {"pairs": "high"},
        series.POSITIVE: {"pairs": "positive"},
        series.NEGATIVE: {"pairs": "negative"},
        series.DOUBLE: {"pairs": "double", "low_threshold": 0.3},
        series.SHUFFLED: {"target": "shuffled"},
        series.ZERO: {"target": "zero"},
        series.NO_LOSS: {"alpha": 0.0},
    }


def test_parts_and_controls_are_all_drawn():
    parts = [series.LOW, series.HIGH, series.POSITIVE, series.NEGATIVE, series.DOUBLE]
    controls = [series.SHUFFLED, series.ZERO, series.NO_LOSS]
    names = ["none", "S^pixel", "S^Th", *parts, *controls]
    picture = made_up("11_target_components", attack_table(**dict.fromkeys(names, 0))).draw()
    above, below = picture.subfigs
    published = 1
    assert len(above.legends[0].get_texts()) == 1 + 2 + len(parts) + published
    assert len(below.legends[0].get_texts()) == 1 + 1 + len(controls) + published
    dashed = [line for line in picture.axes[2].lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert len(dashed) == 7  # none, S^Th and the five parts have a published size
    plt.close(picture)
