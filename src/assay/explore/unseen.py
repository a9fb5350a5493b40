"""What a head knows of samples it has not seen: left out, and held out."""

from __future__ import annotations

import math

import torch

from ..leverage import Leverage
from .checks import Check, judged

GAP = (0.1, 0.25)
"""Accuracy left out less held out, where an embedding begins to know its labels, and where it knows many. An
over-trained network of CIFAR-10 found as many flips as ever at 0.10, a sixth less at 0.27, a third less at 0.37."""

BY_HEART = 0.1
"""Agreement with the labels of images less that with those of their mirror images, from which caution is due. An
over-trained network of CIFAR-10 had 95 % of its best average precision at 0.09, 83 % at 0.17 and 44 % at 0.26
(experiments/cifar10_mirror.py). Never more than caution: mirror images can mean something else."""


def skilled(leverage: Leverage) -> Check:
    """One minus the mean leave-one-out loss over that of a model which knows only how often each label occurs."""
    family, y, w = leverage.family, leverage.y, leverage.w
    loo = leverage.scores.loo_loss
    known = ~loo.isnan() & (w > 0)
    weight, total = w[known], float(w[known].sum())
    if family.classifies:
        share = torch.zeros(max(family.C, 2), dtype=torch.float64).index_add(0, y, w) / w.sum()
        base = -float(share[share > 0] @ share[share > 0].log())
    else:
        base = float(w @ (y - w @ y / w.sum()).square().sum(1)) / float(w.sum()) / 2
    value = 1 - float(weight @ loo[known]) / total / base if total and base else math.nan
    return judged(
        "skill",
        value,
        (0.05, 0.0),
        f"Of samples it has not seen, the head explains {value:.1%} more than how often each label occurs."
        if value > 0
        else "Of samples it has not seen, the head says no more than how often each label occurs: the features tell "
        "nothing of the labels, or l2 is far from its best.",
        high_is_bad=False,
    )


def by_heart(images: float, mirrored: float, error: float, samples: int) -> Check:
    """How much oftener a network agrees with the labels of its images than of their mirror images, less two standard
    errors. One that was trained with mirroring has seen both; one that was not has not, and is tested on them."""
    value = images - mirrored - 2 * error
    told = f"The network agrees with the labels of {images:.1%} of {samples:,} images, and of {mirrored:.1%} of their "
    told += "mirror images"
    more = (
        "."
        if value <= BY_HEART
        else (
            ": it knows labels by heart and hides those that are wrong; audit the mirror images alone (Encoding("
            'mirror="only"), --mirror-only), or an earlier checkpoint. Or mirror images mean something else here, as '
            "those of letters do: Encoding(mirror=None)."
        )
    )
    return judged("images less mirror images", value, (BY_HEART, math.inf), told + more)


def held_out(leverage: Leverage) -> list[Check]:
    """Accuracy on the samples left out less that on those held out (weight zero), less two standard errors; classes.

    The head has seen neither, but what made its features may have: a network that knows the labels of its training set
    by heart has them in its embedding, where leaving a sample out of the head takes nothing away. Nothing is checked
    where no samples are held out.
    """
    family, w = leverage.family, leverage.w
    logits = leverage.scores.loo_logits
    known, out = ~logits.isnan().any(1) & (w > 0), w == 0
    if not family.classifies or not bool(out.any()) or not bool(known.any()):
        return []
    right = (family.probabilities(logits).argmax(1) == leverage.y).double()
    left, held = float(w[known] @ right[known] / w[known].sum()), float(right[out].mean())
    error = math.sqrt(left * (1 - left) / int(known.sum()) + held * (1 - held) / int(out.sum()))
    told = f"The head is right on {left:.1%} of the samples left out of it, and on {held:.1%} of those held out"
    value = left - held - 2 * error
    more = (
        "."
        if value <= GAP[0]
        else (
            ": the features know the labels of the samples they were trained on, and hide those that are wrong. Audit "
            "an earlier checkpoint, the one that is right on most of the held-out samples, or train with augmentation."
        )
    )
    return [judged("left out less held out", value, GAP, told + more)]
