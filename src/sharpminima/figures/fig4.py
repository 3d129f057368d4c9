"""Fig. 4: PSP-entropy over the plane through G and 1-S."""

import pandas as pd
from matplotlib.figure import Figure

from sharpminima.figures.planes import caption, draw_plane
from sharpminima.figures.style import FULL_WIDTH, styled


def entropy_plane(surface: pd.DataFrame) -> Figure:
    """Fig. 4: PSP-entropy, bits, of (a) first and (b) second order over the plane and along its line."""
    definition = surface["definition"].iloc[0]
    with styled():
        figure = Figure(figsize=(FULL_WIDTH, 4.3), layout="constrained")
        figure.suptitle(caption(surface))
        grid = figure.subplots(2, 2, height_ratios=(3, 1.1))
        draw_plane(figure, grid[0, 0], grid[1, 0], surface, "psp_entropy_1_bits", "first order (bits)")
        draw_plane(figure, grid[0, 1], grid[1, 1], surface, "psp_entropy_2_bits", "second order (bits)")
        grid[0, 0].set_title("(a) first-order PSP-entropy", loc="left")
        grid[0, 1].set_title(f"(b) second order, {definition}", loc="left")
    return figure
