"""Why is a sample influential? Mislabeled, under-represented, boundary — told apart by its leverage block.

The paper (Picard et al.) names the three reasons and leaves telling them apart to the expert. Each gets a score in
[0, 1] that is 0.5 at its stated threshold:

| kind              | what is measured                                        | score         | 0.5 at           |
|-------------------|---------------------------------------------------------|---------------|------------------|
| mislabeled        | `L`, the leave-one-out loss under the trimmed head (see | `L / (1 + L)` | 1 nat            |
|                   | trim.py), classes counted by how often they are         |               |                  |
|                   | mistaken for the label (see transitions.py; regression: |               |                  |
|                   | that of the target over its noise, under the head of    |               |                  |
|                   | all samples, so that it is in nats)                     |               |                  |
| under-represented | `q`, the logit variance over its mean                   | `q / (q + 3)` | 3 times the mean |
| boundary          | `p₁ ≥ p₂`, the two largest leave-one-out probabilities  | `2p₂/(p₁+p₂)` | p₂ a third of p₁ |

The kind of a sample is the first of these that holds, else "typical":
mislabeled — the leave-one-out prediction disagrees with the label, whose leave-one-out loss is ≥ 1 nat, and it is not a
toss-up (boundary score < 0.5); under-represented — score ≥ 0.5; boundary — score ≥ 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..families import Family, class_logits
from ..scores import Scores
from .transitions import label_loss

KINDS = ("typical", "mislabeled", "under-represented", "boundary")
THIN = 3.0
OUTLYING = 3.0
"""Leave-one-out residual, in standard deviations of the noise, from which a regression target is an issue."""


@dataclass(frozen=True)
class Kinds:
    """One entry a sample; the leave-one-out values are the plain ones where a sample alone determines a parameter.

    - `predicted`: code of the most probable class with the sample left out; the `[n, outputs]` prediction
      for regression.
    - `confidence`: that class's probability; for regression how surely the target is off, `2Φ(|t|) − 1` with t the
      leave-one-out residual in standard deviations of the noise (the largest over the outputs).
    - `margin`: leave-one-out logit of the given class minus the largest other one (regression: `−|t|`).
    - `label_score`: the leave-one-out probability of the given label (regression: `exp(−L)`): low where bad, cleanlab's
      convention.
    - `kind`: index into `KINDS`.
    """

    predicted: Tensor
    confidence: Float[Tensor, " n"]
    margin: Float[Tensor, " n"]
    mislabeled_score: Float[Tensor, " n"]
    under_represented_score: Float[Tensor, " n"]
    boundary_score: Float[Tensor, " n"]
    is_label_issue: Bool[Tensor, " n"]
    label_score: Float[Tensor, " n"]
    kind: Int64[Tensor, " n"]


def tell_kinds(
    family: Family,
    scores: Scores,
    y: Tensor,
    *,
    mean_logit_variance: float,
    noise: Float[Tensor, " outputs"] | None = None,
    judge: Scores | None = None,
    log_relative: Float[Tensor, "C C"] | None = None,
) -> Kinds:
    """The three scores and the kind of each sample. `noise` is the standard deviation of each regression target.

    The label is judged by the leave-one-out logits of `judge`, the scores under a trimmed head, where there is one, and
    by `Transitions.log_relative`, where some classes are mistaken for some more than others are.
    """
    sole = scores.loo_logits.isnan().any(1)
    z = (judge or scores).left_out_logits
    q = scores.logit_variance / mean_logit_variance
    thin = torch.where(sole, 1.0, q / (q + THIN))
    label = _judged(family, z, y, noise)
    doubt = label.loss if log_relative is None else label_loss(family, z, y, log_relative)
    wrong = doubt / (1 + doubt)
    mislabeled = label.issue & (label.loss >= 1) & (label.toss_up < 0.5)
    kind = torch.zeros(len(z), dtype=torch.int64)
    kind[label.toss_up >= 0.5] = KINDS.index("boundary")
    kind[thin >= 0.5] = KINDS.index("under-represented")
    kind[mislabeled] = KINDS.index("mislabeled")
    return Kinds(
        predicted=label.predicted,
        confidence=label.confidence,
        margin=label.margin,
        mislabeled_score=wrong,
        under_represented_score=thin,
        boundary_score=label.toss_up,
        is_label_issue=label.issue,
        label_score=torch.exp(-label.loss),
        kind=kind,
    )


def scores_of_label(
    family: Family, z: Float[Tensor, "n K"], y: Tensor, noise: Float[Tensor, " outputs"] | None
) -> tuple[Tensor, Float[Tensor, " n"]]:
    """The class predicted by logits that have not seen the sample, and the mislabeled score of its label there."""
    label = _judged(family, z, y, noise)
    return label.predicted, label.loss / (1 + label.loss)


@dataclass(frozen=True)
class _Label:
    """What the leave-one-out prediction says of the label; `loss` in nats."""

    predicted: Tensor
    confidence: Tensor
    margin: Tensor
    loss: Tensor
    toss_up: Tensor
    issue: Tensor


def _judged(family: Family, z: Tensor, y: Tensor, noise: Tensor | None) -> _Label:
    if family.classifies:
        return _classes(family, z, y)
    if noise is None:
        raise ValueError("a regression head needs the noise of its targets to tell kinds apart")
    return _targets(z, y, noise)


def _classes(family: Family, z: Float[Tensor, "n K"], y: Int64[Tensor, " n"]) -> _Label:
    p = family.probabilities(z)
    top, which = p.topk(2, dim=1)
    full = class_logits(family, z)
    own = full.gather(1, y[:, None])
    others = full.scatter(1, y[:, None], float("-inf")).amax(1)
    return _Label(
        predicted=which[:, 0],
        confidence=top[:, 0],
        margin=own[:, 0] - others,
        loss=family.loss(z, y),
        toss_up=2 * top[:, 1] / (top[:, 0] + top[:, 1]),
        issue=which[:, 0] != y,
    )


def _targets(z: Float[Tensor, "n K"], y: Float[Tensor, "n K"], noise: Float[Tensor, " K"]) -> _Label:
    t = ((y - z) / noise).abs()
    worst = t.amax(1)
    return _Label(
        predicted=z,
        confidence=torch.erf(worst / 2**0.5),
        margin=-worst,
        loss=t.square().sum(1) / 2,
        toss_up=torch.zeros_like(worst),
        issue=worst > OUTLYING,
    )


def robust_noise(residuals: Float[Tensor, "n outputs"]) -> Float[Tensor, " outputs"]:
    """Standard deviation of each column by its median absolute value (× 1.4826): a few wild targets do not move it.

    Falls back on the root mean square where more than half of the residuals are zero, and on 1 where none is known.
    """
    known = residuals[~residuals.isnan().any(1)]
    if not len(known):
        return torch.ones(residuals.shape[1], dtype=torch.float64)
    robust = 1.4826 * known.abs().median(0).values
    plain = known.square().mean(0).sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    return torch.where(robust > 0, robust, plain)
