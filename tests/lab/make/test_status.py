"""The list of trainings: each once, folded over seeds, with the figures that need it."""

from simreg_core.lab.figures import FIGURES
from simreg_core.lab.make.figures import missing
from simreg_core.lab.make.status import needed, trainings
from simreg_core.lab.specs import Experiment, load_profile


def test_every_training_is_listed_once(tiny, store):
    todo = missing(tiny, store)
    lines = trainings(tiny, todo)
    assert sum(len(line.seeds) for line in lines) == len(todo.trainings)
    predictor = next(line for line in lines if line.what.startswith("V1 predictor of a simulated recording, 60 images"))
    assert predictor.notebooks == ["01", "02", "24"]
    plain = lines[0]  # notebook 00 shows it
    assert plain.what.endswith("unregularized")
    assert sorted(plain.seeds) == [0, 1, 2]  # the last is the FGSM surrogate
    assert {"02", "03", "04", "11"} <= set(plain.notebooks)
    assert "seeds 0-2; for 00, 02, 03" in str(plain)


def test_the_paper_needs_every_set_it_names(store):
    paper = load_profile("paper")
    experiments = [one for figure in FIGURES.values() for one in needed(paper, figure) if isinstance(one, Experiment)]
    sets = {one.regularizer.images for one in experiments if one.regularizer}
    assert sets == {"cifar10", "cifar100", "imagenet", "mnist", "fashion-mnist", "breast-cancer"}
    assert {one.task.images for one in experiments} == sets - {"imagenet"} | {"imagenette"}  # of notebook 22


def test_a_profile_without_some_studies_lists_what_it_has(store):
    quick = load_profile("quick").changed(all_defences=None)
    assert not FIGURES["24_all_defences"].is_of(quick)
    todo = missing(quick, store)
    assert sum(len(line.seeds) for line in trainings(quick, todo)) == len(todo.trainings)
