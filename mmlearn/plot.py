"""Figures of the book: one colour-blind-safe style, and the few kinds of picture that several chapters draw.

Palette: M. Okabe and K. Ito (2008), *Color Universal Design*.  Every function returns the figure it drew.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's colours, the palest (yellow) last: on white it carries no line.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
# At the width of a phone (about 380 px) a figure of 6.4 inches is drawn at 60 % of its size: text below 11 pt is lost.
STYLE: dict[str, Any] = {
    "figure.figsize": (6.4, 3.6), "figure.dpi": 100, "savefig.dpi": 100, "figure.facecolor": "white",
    "figure.constrained_layout.use": True, "savefig.facecolor": "white", "font.size": 12, "axes.titlesize": 12,
    "axes.labelsize": 12, "xtick.labelsize": 11, "ytick.labelsize": 11, "legend.fontsize": 11, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
    "axes.axisbelow": True, "lines.linewidth": 2.0, "image.cmap": "cividis", "image.interpolation": "nearest",
}


def use_style() -> None:
    """Draw every figure of this session in the book's style."""
    import matplotlib as mpl
    from cycler import cycler
    mpl.rcParams.update(STYLE | {"axes.prop_cycle": cycler(color=PALETTE)})
