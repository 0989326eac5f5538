"""Parts of the target and controls differ from it in one thing, and are all drawn."""

import matplotlib.pyplot as plt
from made_up import attack_table, made_up

from simreg_core.lab import series
from simreg_core.lab.figures import figure
from simreg_core.lab.figures.kit_forest import PUBLISHED


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
    gaussian, fgsm, sizes, clean = picture.axes
    said = [text.get_text() for text in gaussian.get_yticklabels()]
    assert said == [*(series.LOOKS[name].label for name in names[1:]), "Parts", "Controls"]
    for ax, known in ((gaussian, 6), (fgsm, 5), (sizes, 6), (clean, 6)):  # S^Th and its parts; S_low under FGSM is not
        assert len([line for line in ax.lines if line.get_gid() == PUBLISHED]) == known
        assert {line.get_gid() for line in ax.lines} >= set(names)
    assert " ".join(picture.get_suptitle().split()).count("n = 4") == 3
    plt.close(picture)
