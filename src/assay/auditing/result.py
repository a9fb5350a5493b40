"""An audit: the ranked table on disk, what explains it, and the head that can score more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from ..curvature.dense import Curvature
from ..engine import check_manifest
from ..errors import OutputError, ShapeError, SourceError, UnknownIdError
from ..explore.duplicates import WITHIN
from ..explore.trust import TrustReport
from ..features.network import encoded_samples
from ..head import Head
from ..sources.columns_only import ColumnsOnly
from ..sources.identity import ids_of_type
from ..sources.open import reopen
from ..sources.source import Source
from .cuts import Cut, find_cuts
from .duplicates import duplicate_table
from .explain import Explanation, explain_rows
from .exporting import export_as
from .folder import Folder, Temporary
from .group import GroupEffect, group_effect
from .match import open_matching, score_new
from .model import encoded_by
from .passes import load_state
from .regions import Regions, find_regions
from .select import own_columns, select, top_rows
from .shift import Shift, shift_of, thin_unseen
from .target import check_target

if TYPE_CHECKING:
    import pyarrow.dataset as ds


@dataclass(frozen=True)
class Audit:
    """A finished audit in `path`. Made by `assay.audit`, read back by `assay.load`.

    `info` is `audit.json`: what was run, on what, with the sign and the units of every column. Positive influence
    supports, negative opposes; Cook's distance is ≥ 0 and in nats × N.
    """

    path: Path
    info: dict[str, Any]
    _temporary: Temporary | None = field(default=None, repr=False, compare=False)
    _recomputed: Source | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Folder, temporary: Temporary | None = None, source: Source | None = None) -> Audit:
        """The audit in a folder; raises `OutputError` where there is none, or a shard is missing or damaged.

        `source` is used where the audit keeps no features and recomputes them.
        """
        if not folder.info.is_file():
            unfinished = "; it is unfinished: run the same audit again to finish it" if folder.run.exists() else ""
            raise OutputError(f"{folder.path} holds no finished audit{unfinished}")
        try:
            info = json.loads(folder.info.read_text(encoding="utf-8"))
            shards = info["manifest"]
        except (ValueError, KeyError) as cause:
            raise OutputError(f"{folder.info} is damaged ({cause}); restore it, or audit again") from cause
        check_manifest(folder.scores, shards)
        recomputed = info["source"]["store"]["kind"] == "recomputed"
        return cls(folder.path, info, temporary, source if recomputed else None)

    @property
    def folder(self) -> Folder:
        return Folder(self.path)

    @cached_property
    def trust(self) -> TrustReport:
        """Whether the scores can be trusted, in words and numbers."""
        return TrustReport.from_json(self.info["trust"])

    @cached_property
    def source(self) -> Source:
        """The audited samples, read where they were; raises `SourceError` where they are gone."""
        if self._recomputed is not None:
            return self._recomputed
        return reopen(self.folder.unpacked(self.info["source"]))

    def check_source(self) -> None:
        """Raises `SourceError` where the samples are no longer those that were audited; reads them once."""
        if not self._unchanged:
            raise SourceError(
                f"{self.source.where(0)}: the data are no longer those that were audited; audit them again"
            )

    @cached_property
    def _unchanged(self) -> bool:
        if isinstance(getattr(self.source, "store", None), ColumnsOnly):
            return True  # the audit's own copy
        return self.source.fingerprint() == self.info["fingerprint"]

    @property
    def _state(self) -> tuple[Head, Curvature]:
        return load_state(self.folder.head, self.folder.curvature)

    @property
    def _judge(self) -> tuple[Head, Curvature] | None:
        """The trimmed head and its curvature, where there is one."""
        folder = self.folder
        return load_state(folder.trimmed_head, folder.trimmed_curvature) if folder.trimmed_head.exists() else None

    @property
    def head(self) -> Head:
        """The head whose leverage was read."""
        return self._state[0]

    @property
    def dataset(self) -> ds.Dataset:
        """All rows, lazily, in the order of the source."""
        return self.folder.dataset()

    @property
    def table(self) -> pa.Table:
        """All rows in memory, in the order of the source."""
        return self.dataset.to_table()

    def top(self, n: int = 50, *, kind: str | None = None, by: str | None = None) -> pa.Table:
        """The n highest rows by a score, one shard in memory at a time; ties in the order of the source.

        `by` defaults to `cooks_distance`, or to the kind's own score where only one `kind` is asked for.
        """
        return top_rows(self.folder.shards(), n, kind=kind, by=by)

    def rows_of(self, ids: Sequence[Any]) -> pa.Table:
        """The score rows of these samples, in the order asked; raises `UnknownIdError`."""
        wanted = ids_of_type(ids, self.dataset.schema.field("id").type)
        found = self.dataset.to_table(filter=pc.field("id").isin(wanted))
        where = pc.index_in(wanted, found["id"].combine_chunks())
        if where.null_count:
            missing = wanted[pc.is_null(where).index(True).as_py()].as_py()
            raise UnknownIdError(f"no sample of this audit has the id {missing!r}")
        return found.take(where)

    def explain(self, id: Any, *, top_k: int = 5) -> Explanation:
        """The strongest supporters and opponents of a sample among all others, signed, with ids."""
        return self.explain_many([id], top_k=top_k)[0]

    def explain_many(self, ids: Sequence[Any], *, top_k: int = 5) -> list[Explanation]:
        """The same for several samples in one pass over the source."""
        self.check_source()
        return explain_rows(self.source, *self._state, self.rows_of(ids), top_k=top_k)

    def score(self, new: Any, *, model: Any = None, encoded: bool = False, **columns: Any) -> pa.Table:
        """A new batch against the saved head: the same columns, nothing refitted, nothing left out.

        The samples were never trained on, so their leave-one-out values are the plain ones, and leverage and Cook's
        distance say what adding them would do. `columns` are those of `assay.audit` (label, features, id, …); label and
        features of a table are found by the names they had. An audit of a model is given that `model` again, and
        `(X, y)` as it takes them; or samples that are `encoded` already. Raises `SourceError`, `ShapeError`.
        """
        head, curvature = self._state
        encoder = self.info["arguments"]["encoder"]
        module = model if isinstance(model, nn.Module) else getattr(model, "module_", None)
        if module is not None:
            new, columns = encoded_samples(module, new, self.info["arguments"], head.family.name, **columns), {}
        elif model is not None:
            new = encoded_by(model, new, encoder)
        elif encoder is not None and not encoded:
            raise ShapeError(
                f"this audit was made through {encoder}, which is not kept in its folder; pass model= with (X, y), or "
                "encoded=True (--encoded) for samples that are encoded already"
            )
        source = open_matching(new, self.info["source"]["choice"], head, columns)
        variance = self.info["mean_logit_variance"]
        return score_new(source, head, curvature, mean_logit_variance=variance, noise=self._noise, judge=self._judge)

    def shift(self, new: Any, **given: Any) -> Shift:
        """How a new batch lies to the training set: where that is thin, and where the labels contradict it.

        `new` and what else is `given` are those of `score`.
        """
        scored = self.score(new, **given)
        self.check_source()
        info = self.info
        return shift_of(
            scored,
            thin_training=thin_unseen(
                self.source, *self._state, mean_logit_variance=info["mean_logit_variance"],
                seed=info["arguments"]["seed"],
            ),
            contradicting_training=(info["kinds"].get("mislabeled", 0), info["rows"]),
            by_class=self.head.vocabulary is not None,
        )  # fmt: skip

    def select(self, where: str) -> list[Any]:
        """Ids of the samples for which a condition holds, such as `"given_label == 'cat' and confidence > 0.9"`.

        It compares score columns, and the source's own, with numbers and strings (`== != < <= > >= in`), joined by
        `and`, `or`, `not`. Raises `ShapeError` for anything else.
        """
        return self._selected(where)["id"].to_pylist()

    def _selected(self, where: str) -> pa.Table:
        shards = self.folder.shards()
        if own_columns(shards, self.source, where):
            self.check_source()
        return select(shards, self.source, where)

    def group(
        self, ids: Sequence[Any] | None = None, *, where: str | None = None, order: int | str = 2, refit: bool = False
    ) -> GroupEffect:
        """What removing these samples together does to the model, to themselves and to each class.

        The samples are given by `ids` or by a condition (see `select`). `order` is 1, 2 or "newton"; with `refit` the
        head is fitted again without them. Raises `UnknownIdError`, `ShapeError` (see `group_influence`).
        """
        if (ids is None) == (where is None):
            raise ShapeError("name the group by ids or by where=, one of them")
        rows = self.rows_of(ids) if ids is not None else self._selected(where or "")
        if not len(rows):
            raise UnknownIdError(
                f"the group is empty: {'no ids are given' if where is None else f'no sample has {where}'}"
            )
        self.check_source()
        weight = self.info.get("class_weight") or None
        return group_effect(
            self.source, *self._state, rows["id"].to_pylist(), rows["row"].to_pylist(),
            None if weight is None else torch.tensor(weight, dtype=torch.float64), order=order, refit=refit,
        )  # fmt: skip

    def regions(
        self, columns: Sequence[str] | None = None, *, top: int = 8, resamples: int = 10, seed: int = 0
    ) -> Regions:
        """Where in the space of the audited columns (or of the numeric ones named) the influence is; see `Regions`."""
        self.check_source()
        return find_regions(self.source, self.folder, columns, top=top, resamples=resamples, seed=seed)

    def cuts(self, vary: Sequence[str], columns: Sequence[str] | None = None, *, top: int = 12) -> list[Cut]:
        """The cuts along two columns, the other numeric ones fixed, that hold most influence; see `Cut`."""
        self.check_source()
        return find_cuts(self.source, self.folder, vary, columns, top=top)

    def near_duplicates(self, *, within: float = WITHIN) -> pa.Table:
        """Samples that hide each other from leave-one-out, scored with their whole group left out.

        One row a sample that has near-duplicates (see `assay.near_duplicates`, which needs all rows in memory and
        compares them with each other): `group`, `row`, `id`, `given_label`, `suggested_label`, `loo_loss` (itself left
        out, nats), `group_loo_loss` (all of the group left out), `mislabeled_score` of the latter, `labels_agree`
        (whether the group has one label). Groups by their largest score. Raises `ShapeError` for more rows than
        `explore.duplicates.ROWS`.
        """
        self.check_source()
        return duplicate_table(self.source, *self._state, within=within, noise=self._noise)

    @property
    def _noise(self) -> torch.Tensor | None:
        noise = self.info["noise"]
        return None if noise is None else torch.tensor(noise, dtype=torch.float64)

    def summary(self) -> dict[str, Any]:
        """What a person asks first: rows, suspects of each kind, label issues, λ2, the verdict of trust."""
        names = ("rows", "kinds", "label_issues", "leverage_one", "family", "l2", "effective_parameters", "fingerprint")
        return {
            "path": str(self.path),
            **{name: self.info[name] for name in names},
            "trust": self.trust.verdict,
            "reason": self.trust.reason,
        }

    def save(self, path: str | Path) -> Audit:
        """Copies the audit to a new folder, complete or not at all, and returns the one there."""
        if Path(path).resolve().is_relative_to(self.path.resolve()):
            raise OutputError(f"{path} lies in the audit itself; name a folder outside {self.path}")
        target = Folder.claim(path)
        if target.run.exists():
            raise OutputError(f"{path} holds an unfinished audit; name another folder")
        shutil.rmtree(target.path)
        staging = target.path.with_name(f".{target.path.name}.tmp")
        try:
            shutil.copytree(self.path, staging)
            staging.rename(target.path)
        except OSError as cause:
            raise OutputError(f"{path} cannot be written: {cause}; free some space or name another folder") from cause
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return Audit.open(target)

    def check_target(self, to: str | Path, *, overwrite: bool) -> Path:
        """`to` as a path that a table may be written to; raises `OutputError` (see `auditing.target`)."""
        return check_target(to, self.source, suffixes=(".parquet", ".csv"), overwrite=overwrite)

    def export(self, to: str | Path, *, format: str | None = None, overwrite: bool = False) -> Path:
        """Writes the source's rows with suggestions and decisions, in a format of `auditing.exporting`; see there."""
        check, told = self.check_source, self.info
        return export_as(self.source, self.folder, told, to, format, overwrite=overwrite, check=check)
