"""One checked assumption, its verdict and its words."""

from __future__ import annotations

from dataclasses import dataclass

VERDICTS = ("trust", "caution", "do not trust")


@dataclass(frozen=True)
class Check:
    """One assumption: its value, the limit from which it asks for caution, its verdict, and both in words."""

    name: str
    value: float
    limit: float
    verdict: str
    sentence: str


def judged(name: str, value: float, limits: tuple[float, float], sentence: str, *, high_is_bad: bool = True) -> Check:
    bad = [not value <= limit if high_is_bad else not value >= limit for limit in limits]
    return Check(name, value, limits[0], VERDICTS[sum(bad)], sentence)
