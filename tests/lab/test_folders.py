"""Folders of environment variables: absolute at the first look, for this process and for those that it starts."""

import os
from pathlib import Path

import pytest

from simreg_core.lab.folders import FOLDERS, folder_of
from simreg_core.lab.image_files import data_folder
from simreg_core.lab.specs import PROJECT, SpecError
from simreg_core.lab.store import Store
from simreg_core.lab.study import figures_folder


@pytest.fixture
def given(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def give(value):
        for variable in FOLDERS:
            monkeypatch.setenv(variable, value)

    return give


def test_relative_folders_are_of_the_folder_where_they_were_first_looked_up(given, tiny, tmp_path, monkeypatch):
    given("my runs/a")
    place = tmp_path / "my runs" / "a"
    assert Store().root == place
    monkeypatch.chdir("/")
    assert (Store().root, data_folder(), figures_folder(tiny)) == (place, place, place / "tiny")
    assert {os.environ[variable] for variable in FOLDERS} == {str(place)}


def test_home_is_expanded(given, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given("~/runs")
    assert {folder_of(variable) for variable in FOLDERS} == {Path("/home/me/runs")}
    given("~nobody-of-that-name/runs")
    with pytest.raises(SpecError, match=r"SIMREG_RUNS is '~nobody-of-that-name/runs': .*home"):
        folder_of("SIMREG_RUNS")


def test_empty_variables_are_those_of_the_project(given):
    given("")
    assert {variable: folder_of(variable) for variable in FOLDERS} == {
        "SIMREG_RUNS": PROJECT / "runs",
        "SIMREG_FIGURES": PROJECT / "figures",
        "SIMREG_RECORDS": PROJECT / "figures",
        "SIMREG_WEIGHTS": PROJECT / "weights",
        "SIMREG_DATA": PROJECT / "data",
    }
