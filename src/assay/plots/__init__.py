"""Pictures. Every function draws on `ax` (a new figure's if none is given) and returns it.

No pyplot, no rcParams: no global state. Colours are Okabe and Ito's, which colour-blind readers tell apart, and a kind
has a marker of its own beside its colour. Class names are drawn as they are: `$` does not start mathematics.
"""

from .audit import (
    class_bars,
    confusion_pairs,
    given_against_predicted,
    kinds_map,
    refit_agreement,
    score_distribution,
)
from .curves import recall_against_effort, roc_curves
from .cuts import class_swatch, cut_figure, cut_map, draw_encounter
from .influence import influence_plot
from .points import influence_as_size, influence_as_transparency
from .trace import trace_multiples, trace_shares

__all__ = [
    "class_bars",
    "class_swatch",
    "confusion_pairs",
    "cut_figure",
    "cut_map",
    "draw_encounter",
    "given_against_predicted",
    "influence_as_size",
    "influence_as_transparency",
    "influence_plot",
    "kinds_map",
    "recall_against_effort",
    "refit_agreement",
    "roc_curves",
    "score_distribution",
    "trace_multiples",
    "trace_shares",
]
