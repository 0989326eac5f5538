"""Every label has a look of its own."""

import pytest

from simreg_core.lab.series import LOOKS, looks_of


def test_no_series_is_left_out_of_the_figure():
    names = ["none", "S^Th", "mine", "blur", *(f"defence {index}" for index in range(30))]
    looks = looks_of(names)
    assert set(looks) == set(names)
    assert looks["blur"].colour == "#8c6d31"
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(names)
    assert looks["mine"].colour not in {LOOKS[name].colour for name in ("none", "S^Th", "blur")}
    with pytest.raises(ValueError, match="no colour and marker is left for the series 'defence 64', one of 70"):
        looks_of(f"defence {index}" for index in range(70))
