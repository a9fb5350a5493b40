"""Which classes are mistaken for which: the transition matrix of the label noise, told from the labels themselves.

trim.py takes a label to be flipped to any other class alike, with rate ρ. People mistake a cat for a dog, not for a
truck: some class i is called y at a rate `e_iy` of its own. With the leave-one-out probabilities p of the classes, the
labels have the likelihood

    Σ w log Σ_i p_i T_iy,   T_iy = ρ/(C − 1) + e_iy for i ≠ y,   T_ii = 1 − ρ − Σ_y e_iy

which is concave in T and maximised by expectation and maximisation. Of the C (C − 1) pairs few have a rate of their
own: one is taken in where the labels become likelier by `log(C (C − 1))` nats, and 3 at least; of each label the
likeliest one, again and again until none is left. Then a label is judged by

    L = log(1 + Σ_{i≠y} R_iy p_i / p_y),   R_iy = T_iy / T_yy, its largest entry off the diagonal set to 1

the leave-one-out loss `−log p_y` in which another class counts by how often it is mistaken for the label, and just that
loss where no pair stands out. L orders samples as the odds that their label is wrong, `Σ_{i≠y} T_iy p_i / (T_yy p_y)`.

Transition matrices of label noise are Patrini et al.'s ("Making deep neural networks robust to label noise", 2017), the
likelihood is Dawid & Skene's ("Maximum likelihood estimation of observer error-rates", 1979) with one observer, the
price of a pair is that of risk inflation (Foster & George 1994). What it finds is measured in docs/images.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from ..engine import atomic
from ..families import Family, class_logits
from ..threads import one_blas_thread

LEAST = 3.0  # nats: twenty times likelier
RATES = torch.logspace(-3, math.log10(0.5), 16, dtype=torch.float64)
"""Rates at which a pair is tried."""
STEPS, SETTLED = 500, 1e-3  # of expectation and maximisation, which ends when it gains less than so many nats
FIRST = 1e-2  # the rates it begins with
FLIPS = 0.5  # of a pair, at least
TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Transitions:
    """`T[i, y]`, the probability that a sample of class i has the label y, and the `pairs` (i, y) with a rate of their
    own, the most frequent first; `class_weight` is the weight of the samples with each label."""

    rates: Float[Tensor, "C C"]
    pairs: Int64[Tensor, "k 2"]
    class_weight: Float[Tensor, " C"]

    @cached_property
    def log_relative(self) -> Float[Tensor, "C C"] | None:
        """`log R`, at most 0, zero on the diagonal; None where no pair stands out.

        Of no pair less than half a flip was seen (Jeffreys' prior): those that were not taken in may have some.
        """
        if not len(self.pairs):
            return None
        least = self._least()
        odds = torch.maximum(self.rates, least[:, None]) / torch.diagonal(self.rates).clamp(min=least) / self.largest
        return odds.clamp(max=1.0).fill_diagonal_(1.0).log()

    def _least(self) -> Float[Tensor, " C"]:
        return FLIPS / (self.class_weight + len(self.rates) * FLIPS)

    def _odds(self) -> Float[Tensor, "C C"]:
        """`T_iy / T_yy` off the diagonal."""
        return (self.rates / torch.diagonal(self.rates).clamp(min=self._least())).fill_diagonal_(0.0)

    @property
    def largest(self) -> Float[Tensor, ""]:
        """The rate that R is relative to: `max T_iy / T_yy`."""
        return self._odds().max()

    @property
    def uniform(self) -> float:
        """ρ: the rate of flips to any other class, of the pairs that have no rate of their own."""
        others = torch.ones_like(self.rates, dtype=torch.bool).fill_diagonal_(False)
        others[self.pairs[:, 0], self.pairs[:, 1]] = False
        return float(self.rates[others].min()) * (len(self.rates) - 1) if bool(others.any()) else 0.0

    def of_pairs(self, share: float = 0.0) -> Transitions:
        """As if no other labels were wrong than those of the pairs, of which the rate is at least a share of the
        largest."""
        i, y = self.pairs.T
        own = self.rates[i, y] - self.uniform / (len(self.rates) - 1)
        few = own >= share * own.amax() if len(own) else own > 0
        rates = torch.zeros_like(self.rates)
        rates[i[few], y[few]] = own[few]
        return Transitions(rates + torch.diag(1 - rates.sum(1)), self.pairs[few], self.class_weight)

    def log_likelihood(self, p: Float[Tensor, "n C"], y: Int64[Tensor, " n"], w: Float[Tensor, " n"]) -> float:
        """`Σ w log Σ_i p_i T_iy`, of the labels."""
        return float(w @ (p * self.rates[:, y].T).sum(1).clamp(min=TINY).log())

    def told(self, names: Sequence[Any]) -> list[dict[str, Any]]:
        """The pairs by the names of the classes: of those that are `true`ly one, the `rate` `given` the other."""
        return [{"true": names[i], "given": names[y], "rate": float(self.rates[i, y])} for i, y in self.pairs.tolist()]

    def save(self, path: Path) -> None:
        with atomic(path, resumes=True) as temporary:
            save_file(
                {name: value.contiguous() for name, value in vars(self).items() if name != "log_relative"}, temporary
            )

    @classmethod
    def load(cls, path: Path) -> Transitions:
        return cls(**load_file(path))


def label_loss(
    family: Family, z: Float[Tensor, "n K"], y: Int64[Tensor, " n"], log_relative: Float[Tensor, "C C"] | None
) -> Float[Tensor, " n"]:
    """`L` in nats, of leave-one-out logits; the family's loss where no pair stands out."""
    if log_relative is None:
        return family.loss(z, y)
    logits = class_logits(family, z)
    shifted = logits - logits.gather(1, y[:, None]) + log_relative[:, y].T
    return functional.softplus(torch.logsumexp(shifted.scatter(1, y[:, None], -math.inf), 1))


def find_transitions(p: Float[Tensor, "n C"], y: Int64[Tensor, " n"], w: Float[Tensor, " n"]) -> Transitions:
    """The likeliest rates of these samples, p their leave-one-out probabilities; of any number of threads the same."""
    C = p.shape[1]
    with one_blas_thread():
        model = _Mixture(p, y, w)
        model.climb(FIRST, torch.zeros(C, C, dtype=torch.float64))
        special = torch.zeros(C, C, dtype=torch.bool)
        while True:
            gains = model.gains(evidence(C)).masked_fill(special, -math.inf)
            best, found = gains.argmax(0), gains.amax(0) >= evidence(C)
            if not bool(found.any()):
                break
            special[best[found], torch.arange(C)[found]] = True
            model.climb(max(model.rho, FIRST / C), torch.where(special & (model.own == 0), FIRST / C, model.own))
        while bool(special.any()):  # a pair may be needed no more, once others are there
            losses = model.losses().masked_fill(~special, math.inf)
            if float(losses.min()) >= evidence(C):
                break
            special.view(-1)[losses.argmin()] = False
            model.climb(max(model.rho, FIRST / C), torch.where(special, model.own, 0.0))
    rates = model.matrix()
    pairs = special.nonzero()
    order = rates[pairs[:, 0], pairs[:, 1]].argsort(descending=True, stable=True)
    return Transitions(rates, pairs[order], torch.bincount(y, weights=w, minlength=C))


def evidence(classes: int) -> float:
    """Nats by which a pair must make the labels likelier: more where there are more pairs to choose from."""
    return max(LEAST, math.log(classes * (classes - 1)))


class _Mixture:
    """The likelihood as a function of ρ and of the rates `own` (e), zero but for the pairs that have one."""

    def __init__(self, p: Tensor, y: Tensor, w: Tensor) -> None:
        self.C = p.shape[1]
        rows = [(y == k).nonzero()[:, 0] for k in range(self.C)]
        self.p, self.w = [p[part] for part in rows], [w[part] for part in rows]
        """Of the samples with each label."""
        self.rho, self.own = 0.0, torch.zeros(self.C, self.C, dtype=torch.float64)

    def matrix(self) -> Float[Tensor, "C C"]:
        T = (self.own + self.rho / (self.C - 1)).fill_diagonal_(0.0)
        return T + torch.diag((1 - self.rho - self.own.sum(1)).clamp(min=0.0))

    def climb(self, rho: float, own: Float[Tensor, "C C"]) -> None:
        """Expectation and maximisation from here, or from within the simplex."""
        room = 0.99 * (1 - rho)
        self.rho, self.own = rho, own * (room / own.sum(1).clamp(min=room))[:, None]
        before = -math.inf
        for _ in range(STEPS):
            likelihood = self._step()
            if likelihood - before < SETTLED:
                break
            before = likelihood

    def _step(self) -> float:
        """The log-likelihood here, and one step on."""
        s = self.likelihoods()
        by_label = self._by_label(s)
        right = torch.diagonal(self.matrix()) * torch.diagonal(by_label)
        uniform = self.rho / (self.C - 1) * (by_label.sum(1) - torch.diagonal(by_label))
        mistaken = self.own * by_label
        named = right + mistaken.sum(1)
        self.rho = float(uniform.sum() / (uniform.sum() + named.sum()))
        self.own = mistaken * ((1 - self.rho) / named.clamp(min=TINY))[:, None]
        return sum(float(w @ part.log()) for w, part in zip(self.w, s, strict=True))

    def likelihoods(self) -> list[Tensor]:
        """Of the samples with each label: `Σ_i p_i T_iy`."""
        T = self.matrix()
        return [(p @ T[:, k]).clamp(min=TINY) for k, p in enumerate(self.p)]

    def _by_label(self, s: list[Tensor]) -> Float[Tensor, "C C"]:
        """`Σ w p_i / s` over the samples with label y, at [i, y]: the slope of the likelihood in `T_iy`."""
        return torch.stack([p.T @ (w / part) for p, w, part in zip(self.p, self.w, s, strict=True)], 1)

    def gains(self, least: float) -> Float[Tensor, "C C"]:
        """By how much the labels become likelier where class i is called y at the best of `RATES` more often; −∞ for
        pairs where it cannot be `least`: the likelihood is concave."""
        s, right = self.likelihoods(), torch.diagonal(self.matrix())
        slopes = self._by_label(s)
        slopes = slopes - torch.diagonal(slopes)[:, None]
        tried = (slopes * torch.minimum(right, RATES[-1])[:, None] >= least).fill_diagonal_(False)
        best = torch.full((self.C, self.C), -math.inf, dtype=torch.float64)
        share = [p[:, k] / part for k, (p, part) in enumerate(zip(self.p, s, strict=True))]
        for i, y in tried.nonzero().tolist():
            rates = RATES[right[i] > RATES]
            if len(rates):
                up = self.w[y] @ torch.log1p(rates * (self.p[y][:, i] / s[y])[:, None])
                down = self.w[i] @ torch.log1p(-rates * share[i][:, None])
                best[i, y] = (up + down).max()
        return best

    def losses(self) -> Float[Tensor, "C C"]:
        """By how much, at most, they become less likely where a pair has no rate of its own."""
        s, lost = self.likelihoods(), torch.zeros(self.C, self.C, dtype=torch.float64)
        for i, y in self.own.nonzero().tolist():
            without = self.own[i, y] / s[y] * self.p[y][:, i]
            more = self.own[i, y] / s[i] * self.p[i][:, i]
            lost[i, y] = -(self.w[y] @ torch.log1p(-without.clamp(max=1 - 1e-12))) - self.w[i] @ torch.log1p(more)
        return lost
