"""The head that judges labels, and which classes it sees mistaken for which.

The trimmed head (trim.py) leaves out labels that it doubts one by one. Of eights a third of which are called three it
doubts none: fitted to them, it gives an eight the label three a third of the time, and is calibrated. Nothing in its
probabilities tells such flips from a natural doubt. What does is a head that has not seen them, which is sought so:

1. without all samples to which the trimmed head gives another label, at most half of a class, a head is fitted that
   sees which classes are mistaken (transitions.py);
2. without the labels alone that the foremost of these pairs make likelier wrong than right, and those that the trimmed
   head had left out, it is fitted once more, the natural doubts being back. It is believed if it makes all labels
   likelier, leave-one-out, by twice the evidence for each of those pairs: once for the pair, once for the fit it had;
3. then it has seen best, and the head without those whom it suspects judges.

Where classes are hard to tell apart, but nobody mistook them, the second head makes the labels less likely: it is too
sure of itself. What it finds, and that, is measured in docs/images.md.

Fitting without what disagrees is confident learning's pruning (Northcutt et al. 2021), here to look for pairs only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..curvature.dense import Curvature
from ..families import Family
from ..head import Head
from ..l2 import Rows
from ..newton import Fit
from ..scores import Scores, read_scores
from .transitions import Transitions, evidence, find_transitions, label_loss
from .trim import BINS, Suspects, binned, counted, fit_again, halves, trimmed

PRICE = 2.0  # times the evidence of a pair
FOREMOST = 0.5  # of the largest rate, at least: with the others natural doubts would go


@dataclass(frozen=True)
class Judged:
    """The scores under the head that judges, which classes are mistaken, how likely that makes the labels, and the
    weights w of the samples it was fitted to: zero of those it suspects, whose scores are as of samples held out."""

    scores: Scores
    mistaken: Transitions
    log_likelihood: float
    w: Float[Tensor, " n"]


@dataclass(frozen=True)
class Unlearnt:
    """A head that is believed (V, its curvature, the weights w of the samples it was fitted to), the pairs it sees and
    whom it suspects; the fit without those, and how it judges."""

    V: Float[Tensor, "K d"]
    curvature: Curvature
    w: Float[Tensor, " n"]
    pairs: Transitions
    suspects: Suspects
    fit: Fit
    judged: Judged


def judge(head: Head, rows: Rows, V: Float[Tensor, "K d"], curvature: Curvature) -> Judged:
    """Of rows in memory, to which the head was fitted (weights V, curvature there)."""
    left = trimmed(head, rows, V, curvature)
    plain = judged_by(head.family, rows, left.V, left.curvature, left.w)
    other = unlearn(head, rows, left.V, plain)
    return plain if other is None else other.judged


def judged_by(
    family: Family, rows: Rows, V: Float[Tensor, "K d"], curvature: Curvature, w: Float[Tensor, " n"]
) -> Judged:
    """By a head that was fitted to the rows at the weights w."""
    scores = read_scores(family, curvature, V, rows.H, rows.y, w)
    p = family.probabilities(scores.left_out_logits)
    mistaken = find_transitions(p, rows.y, rows.w)
    return Judged(scores, mistaken, mistaken.log_likelihood(p, rows.y, rows.w), w)


def unlearn(head: Head, rows: Rows, start: Float[Tensor, "K d"], before: Judged) -> Unlearnt | None:
    """A head that has not seen the pairs it had learnt; None where there are none, or labels are as likely without."""
    first = _fitted(head, rows, torch.where(_disagreeing(head.family, rows, before.scores), 0.0, rows.w), start)
    if first is None or not len(first[1].mistaken.pairs):
        return None
    _, w = _suspected(head.family, rows, first[1], before.w, FOREMOST)
    second = _fitted(head, rows, w, first[0].V)
    if second is None:
        return None
    fit, seen = second
    price = PRICE * len(first[1].mistaken.of_pairs(FOREMOST).pairs) * evidence(max(head.family.C, 2))
    if not len(seen.mistaken.pairs) or seen.log_likelihood - before.log_likelihood < price:
        return None
    suspects, w = _suspected(head.family, rows, seen, before.w)
    last = _fitted(head, rows, w, fit.V)
    return None if last is None else Unlearnt(fit.V, fit.curvature, seen.w, seen.mistaken.of_pairs(), suspects, *last)


def _fitted(head: Head, rows: Rows, w: Float[Tensor, " n"], start: Float[Tensor, "K d"]) -> tuple[Fit, Judged] | None:
    left = Rows(rows.H, rows.y, w)
    fit = fit_again(head.objective(left.sums(head.family), total_weight=float(w.sum())), start)
    return None if fit is None else (fit, judged_by(head.family, rows, fit.V, fit.curvature, w))


def _suspected(
    family: Family, rows: Rows, seen: Judged, before: Float[Tensor, " n"], share: float = 0.0
) -> tuple[Suspects, Float[Tensor, " n"]]:
    """Whom the pairs make suspect, and the weights without them; first among them are those that weighed nothing
    `before`."""
    pairs = seen.mistaken.of_pairs(share)
    bins = label_bins(family, seen.scores, rows.y, pairs).where(before > 0, BINS - 1)
    suspects = likely_wrong(pairs, counted(bins, rows.y, rows.w, max(family.C, 2)))
    return suspects, torch.where(suspects.among(bins, rows.y), 0.0, rows.w)


def label_bins(family: Family, scores: Scores, y: Int64[Tensor, " n"], pairs: Transitions) -> Int64[Tensor, " n"]:
    """The bin of each label's loss, the mistaken classes counting for more."""
    return binned(label_loss(family, scores.left_out_logits, y, pairs.log_relative))


def likely_wrong(pairs: Transitions, counts: Float[Tensor, "C bins"]) -> Suspects:
    """The labels that are more likely wrong than right, but of no class more than half.

    The odds of a wrong label are `m (e^L − 1)`, m being the largest rate that L counts relative to.
    """
    if not len(pairs.pairs):
        return Suspects(0.0, (BINS,) * len(counts))
    limit = int(binned(torch.log1p(1 / pairs.largest)))
    return Suspects(0.0, tuple(max(limit, half) for half in halves(counts)))


def _disagreeing(family: Family, rows: Rows, scores: Scores) -> Bool[Tensor, " n"]:
    """Whose likeliest label, leave-one-out, is not the given one; of a class the half with the largest loss at most."""
    z = scores.left_out_logits
    other = family.probabilities(z).argmax(1) != rows.y
    bins = torch.where(other, binned(family.loss(z, rows.y)), 0)
    limits = torch.tensor(halves(counted(bins, rows.y, rows.w, max(family.C, 2))))
    return other & (bins >= limits[rows.y])
