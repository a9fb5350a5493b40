"""Can the scores be trusted? What the theory assumes (convex, stationary, invertible) is checked instead of assumed.

The checks are made on rows in memory: all of them, or a seeded sample to which the head is fitted again with the same
total penalty `N λ2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from ..head import Head
from ..influence.refit import refit_rows
from ..l2 import Rows
from ..leverage import Leverage
from ..newton import Fit
from .checks import VERDICTS, Check, judged
from .planted import Flips, Planted, fit_rows
from .unseen import held_out, skilled

FEWEST = 10  # refits, and planted errors, below which nothing more than caution is deserved


@dataclass(frozen=True)
class RefitCheck:
    """Real leave-one-out refits: predicted, first-order (`D_i / N`) and actual changes of loss, in nats."""

    ids: tuple[Any, ...]
    predicted: tuple[float, ...]
    first_order: tuple[float, ...]
    actual: tuple[float, ...]

    @property
    def correlation(self) -> float:
        return _correlation(*(torch.tensor(values, dtype=torch.float64) for values in (self.predicted, self.actual)))

    @property
    def median_relative_error(self) -> float:
        predicted, actual = (torch.tensor(values, dtype=torch.float64) for values in (self.predicted, self.actual))
        return float(((predicted - actual).abs() / actual.abs().clamp(min=1e-300)).median())


@dataclass(frozen=True)
class TrustReport:
    """A verdict — "trust", "caution" or "do not trust" — with its reason, and the checks behind it."""

    verdict: str
    reason: str
    checks: tuple[Check, ...]
    refits: RefitCheck
    planted: Planted

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrustReport:
        planted = {name: _tuples(value) for name, value in data["planted"].items()}
        refits = {name: _tuples(value) for name, value in data["refits"].items()}
        checks = tuple(Check(**dict[str, Any](check, value=_number(check["value"]))) for check in data["checks"])
        return cls(data["verdict"], data["reason"], checks, RefitCheck(**refits), Planted(**planted))


@dataclass(frozen=True)
class Trust:
    """How to check: real refits of `refits` samples (half the most influential, half at random), and planted flips."""

    refits: int = 20
    flips: Flips = field(default_factory=Flips)
    seed: int = 0

    @property
    def steps(self) -> int:
        """How often `report` calls `advance`."""
        return 2 + self.flips.repeats

    def report(
        self,
        head: Head,
        rows: Rows,
        ids: pa.Array,
        *,
        further: Sequence[Check] = (),
        advance: Callable[[], None] = lambda: None,
    ) -> TrustReport:
        """The report for `head`; `rows` are its training rows, or a sample of them; `further` checks stand beside."""
        head = head if head.tilt is None else head.anchored(rows.sums(head.family)(head.V))
        sampled = fit_rows(head, rows, head.V)
        leverage = replace(head, V=sampled.V).leverage_of(sampled.curvature, ids, rows)
        advance()
        refits = self._refit(_with(head, sampled, rows), leverage)
        advance()
        planted = self.flips.into(head, rows, sampled.V, advance=advance)
        checks = (
            _stationary(head),
            _conditioned(sampled),
            _overfitted(sampled, rows),
            _separated(head, rows, sampled.V),
            skilled(leverage),
            *held_out(leverage),
            *further,
            _agrees(refits),
            _recovers(planted),
        )
        worst = max((check.verdict for check in checks), key=VERDICTS.index)
        told = [check.sentence for check in checks if check.verdict == worst and worst != "trust"]
        reason = " ".join(told) or f"Every check passed. {checks[-2].sentence} {checks[-1].sentence}"
        return TrustReport(worst, reason, checks, refits, planted)

    def _refit(self, head: Head, leverage: Leverage) -> RefitCheck:
        change = leverage.leave_one_out().change
        usable = _removable(head, leverage, change)
        which = self._choose(leverage.cooks_distance(), usable)
        removed = leverage.H[which], leverage.y[which], leverage.w[which]
        V, _ = refit_rows(head, lambda: iter([(leverage.H, leverage.y, leverage.w)]), removed)
        loss = head.family.loss(torch.einsum("nd,nkd->nk", removed[0], V), removed[1])
        first_order = leverage.w * leverage.cooks_distance() / head.total_weight
        return RefitCheck(
            ids=tuple(leverage.ids.take(pa.array(which.numpy())).to_pylist()),
            predicted=tuple(change[which].tolist()),
            first_order=tuple(first_order[which].tolist()),
            actual=tuple((loss - leverage.scores.loss[which]).tolist()),
        )

    def _choose(self, influence: Tensor, usable: Tensor) -> Tensor:
        candidates = usable.nonzero()[:, 0]
        top = candidates[influence[candidates].argsort(descending=True)[: self.refits // 2]]
        rest = candidates[~torch.isin(candidates, top)]
        random = torch.randperm(len(rest), generator=torch.Generator().manual_seed(self.seed))
        return torch.cat([top, rest[random[: self.refits - len(top)]]])


def _with(head: Head, fit: Fit, rows: Rows) -> Head:
    total = float(rows.w.sum())
    ratio = head.total_weight / total
    return replace(
        head, V=fit.V, l2=head.l2 * ratio, l1=head.l1 * ratio, damping=head.damping * ratio, total_weight=total,
        gradient_scale=fit.gradient_scale,
    )  # fmt: skip


def _removable(head: Head, leverage: Leverage, change: Tensor) -> Tensor:
    usable = ~change.isnan() & (leverage.w > 0)
    if head.family.classifies:
        weight = torch.zeros(max(head.family.C, 2), dtype=torch.float64).index_add(0, leverage.y, leverage.w)
        usable &= weight[leverage.y] > leverage.w * (1 + 1e-9)
    return usable


def _stationary(head: Head) -> Check:
    ratio = head.gradient_norm / head.gradient_scale
    if head.tilt is not None:
        return judged(
            "gradient norm / scale",
            ratio,
            (1e-3, 1e-1),
            f"The gradient of the objective at the trained head is {ratio:.1e} of its scale"
            + (
                ", so it is nearly at its optimum."
                if ratio <= 1e-3
                else ": it is not at its optimum, and the scores say how this very head would move (refit=True asks of "
                "the one trained to the end)."
            ),
        )
    sentence = f"The gradient of the objective is {ratio:.1e} of its scale, so the head is "
    sentence += "at its optimum." if ratio <= 1e-6 else "not at its optimum; refit it."
    return judged("gradient norm / scale", ratio, (1e-6, 1e-3), sentence)


def _conditioned(fit: Fit) -> Check:
    value = fit.curvature.condition_number
    digits = max(0, 15 - math.ceil(math.log10(value)))
    return judged(
        "condition number",
        value,
        (1e10, 1e13),
        f"The curvature has condition number {value:.1e}: about {digits} digits are exact.",
    )


def _overfitted(fit: Fit, rows: Rows) -> Check:
    samples = float(rows.w.sum() ** 2 / rows.w.square().sum())  # Kish's effective number: no unit of weight in it
    value = fit.curvature.effective_parameters / samples
    return judged(
        "effective parameters / N",
        value,
        (0.3, 0.7),
        f"The head spends {value:.1%} as many effective parameters as there are samples"
        + (
            "."
            if value <= 0.3
            else ": it follows single samples, and one Newton step says little of their removal; raise l2."
        ),
    )


def _separated(head: Head, rows: Rows, V: Tensor) -> Check:
    if not head.family.classifies:
        return Check("training error", 0.0, 0.0, "trust", "A regression has no separation to fear.")
    z = rows.H @ V.T
    p = head.family.probabilities(z)
    right = (p.argmax(1) == rows.y) | (rows.w == 0)
    typical = float(head.family.loss(z, rows.y).median())
    error = 1 - float(right.double().mean())
    blind = error == 0 and typical < 1e-4
    verdict = VERDICTS[1] if blind else VERDICTS[0]
    sentence = f"The head misses {error:.1%} of its own training labels"
    sentence += (
        f" and its median loss is {typical:.0e}: the classes are separated and the scores "
        "rest on the penalty alone; raise l2."
        if blind
        else ", so labels that do not fit can show."
        if error > 0
        else ": the classes are separated, held apart by the penalty."
    )
    return Check("training error", error, 0.0, verdict, sentence)


def _agrees(refits: RefitCheck) -> Check:
    value, count = refits.correlation, len(refits.ids)
    sentence = f"Against {count} real leave-one-out refits the predicted change of loss correlates {value:.3f}, "
    sentence += f"median error {refits.median_relative_error:.1%}."
    if count < FEWEST:
        sentence = f"Only {count} samples could be left out and refitted; that is too few to judge the scores by."
        return Check("agreement with refits", value, 0.95, VERDICTS[1], sentence)
    return judged("agreement with refits", value, (0.95, 0.8), sentence, high_is_bad=False)


def _recovers(planted: Planted) -> Check:
    chance = planted.suspects / planted.rows
    if planted.flips * planted.repeats < FEWEST:
        sentence = f"Only {planted.flips} label errors could be planted; that is too few to judge the scores by."
        return Check("planted flips found", planted.recall_at_suspects, 0.5 + chance / 2, VERDICTS[1], sentence)
    return judged(
        "planted flips found",
        planted.recall_at_suspects,
        (0.5 + chance / 2, 0.25 + 0.75 * chance),
        f"Of {planted.flips} planted label errors {planted.recall_at_suspects:.0%} stand among the first "
        f"{planted.suspects} of {planted.rows} (as many as they and the issues before them; chance: {chance:.0%}).",
        high_is_bad=False,
    )


def _correlation(a: Tensor, b: Tensor) -> float:
    if len(a) < 2:
        return float("nan")
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def _number(value: float | None) -> float:
    """JSON has no NaN: null stands for it."""
    return math.nan if value is None else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
