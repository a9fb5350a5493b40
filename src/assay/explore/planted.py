"""Planted label errors: what recall to expect of inspecting the first suspects, measured on the data themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..elasticnet import minimise
from ..head import Head
from ..l2 import Rows
from ..newton import Fit
from ..scores import read_scores
from .judge import judge
from .kinds import Kinds, robust_noise, tell_kinds

GROSS = 3.0  # how many times the noise a planted error of a target is, at least: less could not be told from noise
TRIES = 64  # rows among which a target that far away is looked for; without one, the farthest is taken
EFFORT = tuple(k / 200 for k in range(201))
"""Shares of the data inspected, best first, at which recall is given."""


@dataclass(frozen=True)
class Planted:
    """Flips planted in `rows` samples, the head refitted: mean (and standard deviation over `repeats`) recall of the
    flips by `mislabeled_score` when the first `effort` share of the rows is inspected."""

    flips: int
    rows: int
    repeats: int
    effort: tuple[float, ...]
    recall: tuple[float, ...]
    recall_std: tuple[float, ...]
    individuals: tuple[tuple[float, ...], ...]
    suspects: int
    recall_at_flips: float
    recall_at_suspects: float


@dataclass(frozen=True)
class Flips:
    """A `share` of the labels (at least `least`, at most a tenth), planted `repeats` times by `seed`.

    They are sought as an audit does: where it does `trim`, by the trimmed head and by which classes are mistaken.
    """

    share: float = 0.02
    least: int = 20
    repeats: int = 3
    seed: int = 0
    trim: bool = True

    def into(
        self, head: Head, rows: Rows, start: Float[Tensor, "K d"], *, advance: Callable[[], None] = lambda: None
    ) -> Planted:
        """Flips labels of `rows`, refits from `start` at the head's total penalty, and counts how many come back."""
        flips = min(max(self.least, round(self.share * len(rows.y))), max(len(rows.y) // 10, 1))
        kinds, noise = _mislabeled(head, rows, start, trim=self.trim)
        suspects = min(flips + int(kinds.is_label_issue.sum()), len(rows.y))
        curves = torch.empty(self.repeats, len(rows.y), dtype=torch.float64)
        for repeat in range(self.repeats):
            generator = torch.Generator().manual_seed(self.seed + 1 + repeat)
            flipped, y = _flip(head, rows, flips, noise, generator)
            score = _mislabeled(head, Rows(rows.H, y, rows.w), start, trim=self.trim)[0].mislabeled_score
            found = torch.isin(score.argsort(descending=True, stable=True), flipped)
            curves[repeat] = found.cumsum(0) / flips
            advance()
        inspected = torch.tensor([round(share * len(rows.y)) for share in EFFORT])
        at = torch.cat([torch.zeros(self.repeats, 1, dtype=torch.float64), curves], 1)[:, inspected]
        return Planted(
            flips=flips,
            rows=len(rows.y),
            repeats=self.repeats,
            effort=EFFORT,
            recall=tuple(at.mean(0).tolist()),
            recall_std=tuple(at.std(0, correction=0).tolist()),
            individuals=tuple(tuple(curve) for curve in at.tolist()),
            recall_at_flips=float(curves[:, flips - 1].mean()),
            suspects=suspects,
            recall_at_suspects=float(curves[:, suspects - 1].mean()),
        )


def fit_rows(head: Head, rows: Rows, start: Float[Tensor, "K d"]) -> Fit:
    """The optimum of the head's objective on these rows, its total penalty `N λ2` unchanged."""
    return minimise(head.objective(rows.sums(head.family), total_weight=float(rows.w.sum())), start)


def _flip(
    head: Head, rows: Rows, flips: int, noise: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which rows were flipped, and the labels: another class at random, or another row's target, `GROSS` noise away."""
    order = torch.randperm(len(rows.y), generator=generator)
    if noise is not None:
        which, y = order[:flips], rows.y.clone()
        others = rows.y[torch.randint(len(y), (flips, TRIES), generator=generator)]
        away = ((others - y[which, None]) / noise).abs().amax(2)
        enough = away >= GROSS
        chosen = torch.where(enough.any(1), enough.double().argmax(1), away.argmax(1))
        y[which] = others[torch.arange(flips), chosen]
        return which, y
    classes = max(head.family.C, 2)
    left = torch.bincount(rows.y, minlength=classes)
    which, y = torch.empty(0, dtype=torch.int64), rows.y.clone()
    for row in order.tolist():  # no class is emptied
        if len(which) == flips:
            break
        if left[y[row]] > 1:
            left[y[row]] -= 1
            which = torch.cat([which, torch.tensor([row])])
    y[which] = (y[which] + torch.randint(1, classes, (len(which),), generator=generator)) % classes
    return which, y


def _mislabeled(head: Head, rows: Rows, start: Tensor, *, trim: bool) -> tuple[Kinds, Tensor | None]:
    """What the head says of its labels once it is fitted to them, and the noise of its targets."""
    fit = fit_rows(head, rows, start)
    scores = read_scores(head.family, fit.curvature, fit.V, rows.H, rows.y, rows.w)
    noise = None if head.family.classifies else robust_noise(scores.loo_logits - rows.y)
    mean = float(scores.logit_variance.mean())
    by, mistaken = None, None
    if trim and head.family.classifies:
        judged = judge(head, rows, fit.V, fit.curvature)
        by, mistaken = judged.scores, judged.mistaken.log_relative
    kinds = tell_kinds(
        head.family, scores, rows.y, mean_logit_variance=mean, noise=noise, judge=by, log_relative=mistaken
    )
    return kinds, noise
