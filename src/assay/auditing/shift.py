"""How a new batch lies to the training set: where it is thin there, and where it contradicts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..curvature.dense import Curvature
from ..explore.kinds import THIN
from ..head import Head
from ..scores import unseen_logit_variance
from ..sources.source import Source
from .sample import sample_rows


@dataclass(frozen=True)
class Share:
    """How many of the new samples, how many training samples that the head has not seen, and whether that is more.

    `p_value`: Fisher's exact test, one-sided, of the new share being no larger than the training one.
    """

    new: int
    new_rows: int
    training: int
    training_rows: int
    p_value: float

    @property
    def sentence(self) -> str:
        new, training = self.new / self.new_rows, self.training / self.training_rows
        return f"{self.new:,} of {self.new_rows:,} ({new:.1%}, training {training:.1%}, p = {self.p_value:.2g})"


@dataclass(frozen=True)
class Shift:
    """The shift report of a new batch.

    - `table`: `Audit.score`'s, with two columns more. `thin`: the training set has little there (logit variance above
      three times its mean over the training samples). `contradicts`: the head, which never saw the label, is sure of
      another (kind "mislabeled").
    - `thin`, `contradicting`: how many, beside the training samples under the same thresholds.
    - `classes`: one row a class: `class`, `rows`, `thin`, `contradicts`; None for a regression.
    - `sentence`: the three in words.
    """

    table: pa.Table
    thin: Share
    contradicting: Share
    classes: pa.Table | None
    sentence: str


def shift_of(
    scored: pa.Table, *, thin_training: tuple[int, int], contradicting_training: tuple[int, int], by_class: bool
) -> Shift:
    """The report of scored samples, beside how many training samples of how many do the same."""
    thin = pc.greater_equal(scored["under_represented_score"], 0.5)
    contradicts = pc.equal(scored["kind"].cast(pa.string()), "mislabeled")
    thinly, contradicting = _share(thin, *thin_training), _share(contradicts, *contradicting_training)
    table = scored.append_column("thin", thin).append_column("contradicts", contradicts)
    sentence = f"The training set is thin at {thinly.sentence}; the labels of {contradicting.sentence} contradict it."
    return Shift(table, thinly, contradicting, _by_class(table) if by_class else None, sentence)


def thin_unseen(
    source: Source, head: Head, curvature: Curvature, *, mean_logit_variance: float, seed: int
) -> tuple[int, int]:
    """How many of a seeded sample of the training set would be thin had the head not seen them, and of how many.

    A sample that the head has seen is never as thin as a new one at the same place.
    """
    rows = sample_rows(source, seed=seed)
    batch = source.take(rows)
    H = head.design.matrix(batch.x)
    variance = unseen_logit_variance(head.family, curvature, head.V, H, batch.w)
    return int((~(variance < THIN * mean_logit_variance)).sum()), len(rows)


def _share(column: pa.ChunkedArray, training: int, training_rows: int) -> Share:
    from scipy.stats import fisher_exact

    new, rows = pc.sum(column).as_py() or 0, len(column)
    tested: Any = fisher_exact([[new, rows - new], [training, training_rows - training]], alternative="greater")
    return Share(new, rows, training, training_rows, float(tested.pvalue))


def _by_class(table: pa.Table) -> pa.Table:
    counted = table.group_by("given_label").aggregate([("row", "count"), ("thin", "sum"), ("contradicts", "sum")])
    return counted.rename_columns(["class", "rows", "thin", "contradicts"]).sort_by("class")
