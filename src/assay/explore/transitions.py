"""Which classes are mistaken for which: the transition matrix of the label noise, told from the labels themselves.

trim.py takes a label to be flipped to any other class alike, with rate ρ. People mistake a cat for a dog, not for a
truck: some class i is called y at a rate `e_iy` of its own. With the leave-one-out probabilities p of the classes, the
labels have the likelihood

    Σ w log Σ_i p_i T_iy,   T_iy = ρ/(C − 1) + e_iy for i ≠ y,   T_ii = 1 − ρ − Σ_y e_iy

which is concave in T and maximised by expectation and maximisation. Of the C (C − 1) pairs few have a rate of their
own: one is taken in where the labels become likelier by `log(C (C − 1))` nats, and 3 at least; of each label the
likeliest one, again and again until none is left. Then a label is judged by

    L = log(1 + Σ_{i≠y} (T_iy / max T) p_i / p_y)

the leave-one-out loss `−log p_y` in which another class counts by how often it is mistaken for the label, and just that
loss where no pair stands out. L orders samples as the odds that their label is wrong do.

Transition matrices of label noise are Patrini et al.'s ("Making deep neural networks robust to label noise", 2017), the
likelihood is Dawid & Skene's ("Maximum likelihood estimation of observer error-rates", 1979) with one observer, the
price of a pair is that of risk inflation (Foster & George 1994). What it finds is measured in docs/images.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..families import Family
from ..scores import Scores

LEAST = 3.0  # nats: twenty times likelier
RATES = torch.logspace(-3, math.log10(0.5), 16, dtype=torch.float64)
"""Rates at which a pair is tried."""
STEPS, SETTLED = 500, 1e-4  # of expectation and maximisation, which ends when it gains less than so many nats
FIRST = 1e-2  # the rates it begins with
FLIPS = 0.5


@dataclass(frozen=True)
class Transitions:
    """`T[i, y]`, the probability that a sample of class i has the label y, and the `pairs` (i, y) with a rate of their
    own, the most frequent first; `class_weight` is the weight of the samples with each label."""

    rates: Float[Tensor, "C C"]
    pairs: tuple[tuple[int, int], ...]
    class_weight: Float[Tensor, " C"]

    @cached_property
    def log_relative(self) -> Float[Tensor, "C C"] | None:
        """`log(T_iy / max_{j≠k} T_jk)`, zero on the diagonal; None where no pair stands out.

        Of no pair less than half a flip was seen (Jeffreys' prior): those that were not taken in may have some.
        """
        if not self.pairs:
            return None
        least = FLIPS / self.class_weight.clamp(min=1.0)
        off = torch.maximum(self.rates, least[:, None]).fill_diagonal_(0.0)
        return (off / off.max()).fill_diagonal_(1.0).log()

    def told(self, names: Sequence[Any]) -> list[dict[str, Any]]:
        """The pairs by the names of the classes: of those that are `true`ly one, the `rate` `given` the other."""
        return [{"true": names[i], "given": names[y], "rate": float(self.rates[i, y])} for i, y in self.pairs]


def label_loss(
    logits: Float[Tensor, "n C"], y: Int64[Tensor, " n"], log_relative: Float[Tensor, "C C"]
) -> Float[Tensor, " n"]:
    """`L` in nats, of logits in class columns."""
    shifted = logits - logits.gather(1, y[:, None]) + log_relative[:, y].T
    return torch.logsumexp(shifted, 1)


def transitions_of(family: Family, scores: Scores, y: Int64[Tensor, " n"], w: Float[Tensor, " n"]) -> Transitions:
    """Told from the scores under the head that judges the labels."""
    return find_transitions(family.probabilities(scores.left_out_logits), y, w)


def find_transitions(p: Float[Tensor, "n C"], y: Int64[Tensor, " n"], w: Float[Tensor, " n"]) -> Transitions:
    """The likeliest rates of these samples, p their leave-one-out probabilities."""
    C = p.shape[1]
    special = torch.zeros(C, C, dtype=torch.bool)
    model = _Mixture(p, y, w, special).climb(FIRST, torch.zeros(C, C, dtype=torch.float64))
    while True:
        gains = model.gains().masked_fill(special | torch.eye(C, dtype=torch.bool), -math.inf)
        best = gains.argmax(0)
        found = gains.amax(0) >= evidence(C)
        if not bool(found.any()):
            break
        special[best[found], torch.arange(C)[found]] = True
        start = torch.where(special & (model.own == 0), FIRST / C, model.own)
        model = _Mixture(p, y, w, special).climb(max(model.rho, FIRST / C), start)
    order = sorted(map(tuple, special.nonzero().tolist()), key=lambda pair: -float(model.own[pair]))
    return Transitions(model.matrix(), tuple(order), torch.bincount(y, weights=w, minlength=C))


def evidence(classes: int) -> float:
    """Nats by which a pair must make the labels likelier: more where there are more pairs to choose from."""
    return max(LEAST, math.log(classes * (classes - 1)))


class _Mixture:
    """The likelihood as a function of ρ and of the rates `own` (e) of the `special` pairs."""

    def __init__(self, p: Tensor, y: Tensor, w: Tensor, special: Bool[Tensor, "C C"]) -> None:
        self.p, self.y, self.w, self.special = p, y, w, special
        self.C = p.shape[1]
        self.of_label = p.gather(1, y[:, None])[:, 0]
        self.rho, self.own = 0.0, torch.zeros(self.C, self.C, dtype=torch.float64)

    def matrix(self) -> Float[Tensor, "C C"]:
        T = self.own + self.rho / (self.C - 1)
        return T.fill_diagonal_(0.0) + torch.diag(1 - self.rho - self.own.sum(1))

    def climb(self, rho: float, own: Float[Tensor, "C C"]) -> _Mixture:
        """Expectation and maximisation from here."""
        self.rho, self.own = rho, own
        before = -math.inf
        for _ in range(STEPS):
            likelihood = self._step()
            if likelihood - before < SETTLED:
                break
            before = likelihood
        return self

    def _step(self) -> float:
        """The log-likelihood here, and one step on."""
        s = self.likelihoods()
        weight = self.w / s
        by_label = torch.zeros(self.C, self.C, dtype=torch.float64).index_add_(0, self.y, self.p * weight[:, None]).T
        right = torch.diagonal(self.matrix()) * torch.diagonal(by_label)
        uniform = self.rho / (self.C - 1) * (by_label.sum(1) - torch.diagonal(by_label))
        mistaken = self.own * by_label
        likelihood = float(self.w @ s.log())
        named = right + mistaken.sum(1)
        self.rho = float(uniform.sum() / (uniform.sum() + named.sum()))
        self.own = mistaken * ((1 - self.rho) / named.clamp(min=torch.finfo(torch.float64).tiny))[:, None]
        return likelihood

    def likelihoods(self) -> Float[Tensor, " n"]:
        """Of each label: `Σ_i p_i T_iy`."""
        s = self.of_label * torch.diagonal(self.matrix())[self.y] + self.rho / (self.C - 1) * (1 - self.of_label)
        for i, y in self.special.nonzero().tolist():
            s = s + torch.where(self.y == y, self.own[i, y] * self.p[:, i], 0.0)
        return s.clamp(min=torch.finfo(torch.float64).tiny)

    def gains(self) -> Float[Tensor, "C C"]:
        """By how much the labels become likelier where class i is called y at the best of `RATES` more often."""
        s, best = self.likelihoods(), torch.full((self.C, self.C), -math.inf, dtype=torch.float64)
        ratio, own = self.p / s[:, None], self.of_label / s
        for rate in RATES.tolist():
            more = torch.log1p(rate * ratio) * self.w[:, None]
            up = torch.zeros(self.C, self.C, dtype=torch.float64).index_add_(0, self.y, more).T
            less = torch.log1p((-rate * own).clamp(min=-1 + 1e-12)) * self.w
            down = torch.zeros(self.C, dtype=torch.float64).index_add_(0, self.y, less)
            best = torch.maximum(best, up + down[:, None])
        return best
