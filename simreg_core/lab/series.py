"""Names and looks of targets and defences, in one table; a label that is not in it gets the next free look."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from simreg_core.lab.specs import ADVERSARIAL, NOISE

NONE, PIXEL, THRESHOLD = "none", "S^pixel", "S^Th"
LOW, HIGH, DOUBLE, POSITIVE, NEGATIVE = "S_low", "S_high", "S_double", "S_+", "S_−"
SHUFFLED, ZERO, NO_LOSS = "shuffled S^Th", "all targets 0", "pairs, no loss"
NEURAL, SHUFFLED_NEURAL = "S^neural", "shuffled S^neural"
TARGETS = {  # the names of a regularizer's targets
    "pixel": PIXEL, "threshold": THRESHOLD, "neural": NEURAL, "shuffled_neural": SHUFFLED_NEURAL,
    "shuffled": SHUFFLED, "zero": ZERO,
}  # fmt: skip
MAIN_TASK = "main task"  # a group of curves, beside those of other tasks
S_TH, S_PIXEL, S_NEURAL = r"$S^{\mathrm{Th}}$", r"$S^{\mathrm{pixel}}$", r"$S^{\mathrm{neural}}$"


@dataclass(frozen=True)
class Look:
    """How one series is drawn, and the published series beside it.

    label: in the legend.  published: for each attack the (series, panel) of the digitized values.
    """

    label: str
    colour: object
    marker: str = "o"
    published: dict[str, tuple[str, str]] | None = None

    def beside(self, published: dict[str, tuple[str, str]] | None) -> "Look":
        """The same look beside these published values; None: beside none."""
        return replace(self, published=published)


LOOKS = {  # colours that colour-blind readers tell apart
    NONE: Look("none", "0.25", "o"),
    PIXEL: Look(S_PIXEL, "#0072b2", "s"),
    THRESHOLD: Look(S_TH, "#d55e00", "^"),
    NEURAL: Look(S_NEURAL, "#009e73", "D"),
    SHUFFLED_NEURAL: Look(f"shuffled {S_NEURAL}", "#cc79a7", "v"),
    LOW: Look(r"$S_{\mathrm{low}}$", "#de8f05", "D"),
    HIGH: Look(r"$S_{\mathrm{high}}$", "#029e73", "v"),
    POSITIVE: Look(r"$S_{+}$", "#cc78bc", "P"),
    NEGATIVE: Look(r"$S_{-}$", "#ca9161", "X"),
    DOUBLE: Look(r"$S^{\mathrm{Th1,Th2}}$", "#fbafe4", "o"),
    SHUFFLED: Look(f"shuffled {S_TH}", "#de8f05", "s"),
    ZERO: Look("all targets 0", "#029e73", "D"),
    NO_LOSS: Look("pairs, no loss", "#cc78bc", "v"),
    ADVERSARIAL: Look("adversarial training", "#009e73", "s"),
    "TRADES": Look("TRADES", "#56b4e9", "P"),
    NOISE: Look("noise augmentation", "#cc79a7", "D"),
    "blur": Look("blur", "#8c6d31", "v"),
}
FREE_COLOURS = ("#0072b2", "#e69f00", "#882255", "#44aa99", "#999933", "#332288", "#aa4499", "#661100")
FREE_MARKERS = "X<>phd*8"
QUALITATIVE = (  # seaborn's 'colorblind'
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
)  # fmt: skip


def looks_of(
    names: Iterable[str], colours: Sequence[object] = FREE_COLOURS, markers: Sequence[str] = FREE_MARKERS
) -> dict[str, Look]:
    """A look for each series, in the order given: that of LOOKS, or the next free colour and marker.

    Raises ValueError where more series have no look in LOOKS than there are free ones.
    """
    names = list(dict.fromkeys(names))
    free = _free_looks(
        [one for one in colours if one not in {LOOKS[name].colour for name in names if name in LOOKS}], markers
    )
    looks = {}
    for name in names:
        looks[name] = LOOKS.get(name) or next((Look(name, *look) for look in free), None)
        if looks[name] is None:
            raise ValueError(f"no colour and marker is left for the series '{name}', one of {len(names)}")
    return looks


def _free_looks(colours: Sequence[object], markers: Sequence[str]) -> Iterator[tuple[object, str]]:
    """Colours and markers, no two alike: at first both differ from all before."""
    for turn, index in product(range(len(markers)), range(len(colours))):
        yield colours[index], markers[(index + turn) % len(markers)]
