"""Learning rates through training: functions from the share of the steps done, in [0, 1), to a factor of the rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[float], float]


def constant(done: float) -> float:
    """The rate as it is."""
    return 1.0


def cosine(done: float) -> float:
    """From 1 to 0 along half a cosine (Loshchilov & Hutter 2017)."""
    return (1 + math.cos(math.pi * done)) / 2


def step(at: Sequence[float], factor: float = 0.1) -> Schedule:
    """Times `factor` at each of these shares of the training."""
    return lambda done: factor ** sum(done >= share for share in at)


def one_cycle(peak: float = 0.3, start: float = 1 / 25, end: float = 1e-4) -> Schedule:
    """From `start` up to 1 at the share `peak` and down to `end`, along cosines (Smith & Topin 2019)."""

    def factor(done: float) -> float:
        if done < peak:
            return start + (1 - start) * (1 - cosine(done / peak))
        return end + (1 - end) * cosine((done - peak) / (1 - peak))

    return factor
