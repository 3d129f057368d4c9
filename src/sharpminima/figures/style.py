"""How figures look, and how they are saved: the same bytes from the same inputs."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patheffects import withStroke

from sharpminima.base.files import atomic_path
from sharpminima.base.names import DENSE, GRADUAL
from sharpminima.report.titles import title_of

FULL_WIDTH = 6.3  # inches: the text of an A4 page
COLUMN_WIDTH = 3.3  # inches
OUTLINE = [withStroke(linewidth=2, foreground="white")]
"""Of text that stands on data."""

_RC = {
    # Both families ship with matplotlib, so that every machine draws the same glyphs.
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, embedded
    "svg.fonttype": "path",  # no reader needs the fonts
    "svg.hashsalt": "sharpminima",
    "path.simplify": False,
}


@dataclass(frozen=True)
class Look:
    """How a strategy is drawn in every figure."""

    title: str
    colour: str  # of Okabe and Ito's palette, told apart by colour-blind readers
    marker: str
    main: bool = True  # of the paper's own comparison: filled markers, solid line


_SHAPES = {
    "rewind": ("#D55E00", "s"),
    "reinit": ("#009E73", "^"),
    "random-structure": ("#CC79A7", "D"),
    "random-structure-layerwise": ("#CC79A7", "d"),
    "shuffle-weights": ("#E69F00", "v"),
    "shuffle-masks": ("#56B4E9", "v"),
    "rewind-long": ("#E69F00", "s"),
    "reinit-long": ("#56B4E9", "^"),
}
_PAPER = ("rewind", "reinit", "random-structure")
GRADUAL_COLOUR, DENSE_COLOUR = "#0072B2", "#444444"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#9A8B00", "#888888")


def look_of(strategy: str, method: str) -> Look:
    """Title, colour and marker of a strategy; ``gradual`` is the method's own states, whatever its kind."""
    title = title_of(strategy, method)
    if strategy == GRADUAL:
        return Look(title, GRADUAL_COLOUR, "o")
    if strategy == DENSE:
        return Look(title, DENSE_COLOUR, "")
    colour, marker = _SHAPES[strategy]
    return Look(title, colour, marker, strategy in _PAPER)


def _register_fonts() -> None:
    """Tell matplotlib of the fonts it ships: its cache, which environments share, may have been written without."""
    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(map(str, Path(matplotlib.get_data_path(), "fonts/ttf").glob("*.ttf"))):
        if path not in known:
            fontManager.addfont(path)


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The style, whatever the user's own matplotlib settings and cache of fonts are."""
    _register_fonts()
    with matplotlib.style.context(["default", _RC]):
        yield


def save_figure(figure: Figure, out: str | os.PathLike[str]) -> None:
    """Write ``out.pdf`` and ``out.svg``; no date and no random id, so equal figures give equal bytes."""
    metadata = {
        "pdf": {"Creator": "sharpminima", "Producer": "matplotlib", "CreationDate": None},
        "svg": {"Creator": "sharpminima", "Date": None},
    }
    with styled():
        for extension, facts in metadata.items():
            target = Path(f"{os.fspath(out)}.{extension}")
            with atomic_path(target) as scratch:
                figure.savefig(scratch, format=extension, metadata=facts)
