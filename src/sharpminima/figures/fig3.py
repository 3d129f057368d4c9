"""Fig. 3: the PSP norm over the plane through G and 1-S."""

import pandas as pd
from matplotlib.figure import Figure

from sharpminima.figures.planes import caption, draw_plane
from sharpminima.figures.style import COLUMN_WIDTH, styled


def norm_plane(surface: pd.DataFrame) -> Figure:
    """Fig. 3: the PSP norm (mean z^2 of a hidden layer, mean over layers), drawn like Fig. 2 (a) and (c)."""
    with styled():
        figure = Figure(figsize=(COLUMN_WIDTH + 0.3, 4.5), layout="constrained")
        figure.suptitle(caption(surface, lines=3))
        plane, cut = figure.subplots(2, 1, height_ratios=(3, 1.1))
        draw_plane(figure, plane, cut, surface, "psp_norm", "PSP norm (mean z²)")
    return figure
