"""Small pictures for the README: the first panel of a figure, large enough to be read there."""

import re
from pathlib import Path

from simreg_core.lab.figures import FIGURES
from simreg_core.lab.figures.kit import Picture, plt
from simreg_core.lab.files import written_whole
from simreg_core.lab.folders import figures_folder
from simreg_core.lab.specs import PROJECT, Profile

SMALL = re.compile(r'src="figures/quick/small/(\w+)\.png"')


def write_gallery(profile: Profile) -> None:
    """Write the small pictures that the README shows."""
    folder = figures_folder(profile) / "small"
    folder.mkdir(parents=True, exist_ok=True)
    for name in SMALL.findall((PROJECT / "README.md").read_text(encoding="utf-8")):
        figure = FIGURES[name]
        study = figure.study(profile)
        picture = study.draw() if figure.small is None else figure.small(study)
        save_first_panel(picture, folder / f"{name}.png")
        plt.close(picture)


def save_first_panel(picture: Picture, path: Path) -> None:
    """Save the first panel of a picture as PNG, with the names of its curves below it.  Changes the picture."""
    picture.canvas.draw()
    picture.set_layout_engine("none")  # the panel stays where the layout of the whole put it
    first, *others = picture.axes
    for one in (*others, *picture.legends):
        one.set_visible(False)
    shared = [one.get_xlabel() for one in first.get_shared_x_axes().get_siblings(first)]  # which name the axis once
    first.tick_params(labelbottom=True)
    first.set_xlabel(next(filter(None, shared), ""))
    handles, labels = first.get_legend_handles_labels()
    if handles:
        names = [label.partition(" (n = ")[0] for label in labels]
        lowest = first.transAxes.inverted().transform((0, first.get_tightbbox().y0))[1]
        first.legend(handles, names, loc="upper center", bbox_to_anchor=(0.45, lowest), ncols=2, columnspacing=1)
    box = first.get_tightbbox().transformed(picture.dpi_scale_trans.inverted()).padded(0.04)
    with written_whole(path) as temporary:
        picture.savefig(temporary, format="png", metadata={"Software": None}, bbox_inches=box)
