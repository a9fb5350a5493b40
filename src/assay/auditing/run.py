"""`audit`: the main job, from a source to a finished folder."""

from __future__ import annotations

import json
import warnings
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from ..curvature.dense import refuse_too_large
from ..design import Design
from ..encoder import Encoder
from ..engine import SHARD_ROWS, Progress, manifest, stage, write_json
from ..errors import (
    AssayWarning,
    ConvergenceError,
    SeparableError,
    ShapeError,
    SingularCurvatureError,
    SourceError,
)
from ..explore.kinds import robust_noise
from ..explore.trust import Trust, TrustReport
from ..families import Family, check_name, family_of
from ..head import Head
from ..l2 import L2Path, LeaveOneOutPath, Rows, checked_l2
from ..leverage import read_scores
from ..newton import Fit, Newton, Objective
from ..pool import executor
from ..sources.choose import index_columns
from ..sources.open import open_source
from ..sources.scan import Scan
from ..sources.source import Source
from ..sources.table import TableSource
from .columns import SIGN, UNITS
from .folder import Folder, Temporary
from .keep import kept, regrouped, spec_of
from .passes import Passes, at_weights, save_curvature, second_moment
from .result import Audit
from .sample import sample_rows
from .summary import summarise

PACKAGES = ("torch", "numpy", "pyarrow", "scikit-learn", "safetensors")


def audit(
    data: Any,
    *,
    label: str | list[str] | None = None,
    features: str | list[str] | None = None,
    embedding: str | None = None,
    id: Any = None,
    weight: Any = None,
    family: str | None = None,
    l2: float | str = "auto",
    standardize: bool = True,
    model: Any = None,
    image_shape: tuple[int, ...] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    workers: int | Executor | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    shard_rows: int = SHARD_ROWS,
) -> Audit:
    """Measures for every sample how different the model would be without it, ranks the samples and says why.

    Fits the convex head `min_V (1/N) Σ w ℓ(V h, y) + (λ2/2)‖D V‖²` to the columns, then reads Cook's distance,
    leverage, logit variance and the leave-one-out answer of every row from its leverage block, tells mislabeled,
    under-represented and boundary samples apart, and checks whether all that can be trusted.

    - `data`: a path (Parquet file, folder or glob, CSV, NPZ), a pandas, polars or Arrow table, or `(X, y)` or
      `(X, y, ids)` arrays; `label`, `features`, `embedding`, `id`, `weight` name its columns.
    - `family`: "softmax" (default for classes), "logistic" (two classes), "linear" (default for numeric targets).
    - `l2`: λ2, or "auto" to minimise the leave-one-out loss (on a seeded sample of 20,000 rows where there are more,
      its total penalty `N λ2` carried over).
    - `standardize`: columns are centred and scaled to unit variance first.
    - `model`: a fitted scikit-learn estimator, or a pipeline that ends in one, instead of family, λ2 and
      standardisation: `data` is the `(X, y)` it was fitted to. Columns are what its last step takes
      (`Head.from_sklearn` says which estimators have an equal here). Or a trained `nn.Module` that returns logits:
      columns are what comes into its last linear layer, as they are, and the head is fitted to them anew.
    - `image_shape`: (h, w) or (h, w, c) where a row is an image.
    - `out`: the audit's folder. An interrupted audit of the same data and arguments is resumed there; without `out` the
      audit lives in a temporary folder until `save`.
    - `workers`: None for the threads of this process, a number of processes, or any executor. Same bytes whichever.

    Memory is bounded by `O(P² + shard · P)`, whatever the number of rows. Raises `SourceError`, `ShapeError`,
    `OutputError`, `SeparableError`, `SingularCurvatureError`, `ConvergenceError`, `EngineError`.

    Source: Picard et al., "Influence functions for dataset exploration and cleaning".
    """
    encoder: Encoder | None = None
    if model is not None:
        from .model import of_model

        modelled = of_model(model, data, weight, family=family, l2=l2)
        data, weight, family, l2 = modelled.data, modelled.weight, modelled.family, modelled.l2
        encoder, standardize = modelled.encoder, False
    if l2 != "auto":
        l2 = checked_l2(l2)
    if family is not None:
        check_name(family)
    if shard_rows < 1 or seed < 0:
        raise ShapeError(f"shard_rows={shard_rows}, seed={seed}; a shard has at least one row, a seed is not negative")
    temporary = Temporary() if out is None else None
    folder = Folder.claim(temporary.path if temporary else Path(out or "."), overwrite=overwrite)
    with folder.cleared_by(SourceError, ShapeError, keep=folder.run.exists()):
        source = open_source(
            data, label=label, features=features, embedding=embedding, id=id, weight=weight,
            regression=None if family is None else family == "linear",
            image_shape=image_shape, workdir=folder.source,
        )  # fmt: skip
        chosen = family_of(source, family)
        refuse_too_large(1 if chosen.shared else chosen.K, len(source.columns) + 1)
        arguments = {
            "family": chosen.name,
            "l2": l2,
            "standardize": standardize,
            "seed": seed,
            "shard_rows": shard_rows,
            "encoder": None if encoder is None else encoder.name,
        }
        identity = {"fingerprint": source.fingerprint(), "arguments": arguments}
        folder.begin(identity, overwrite=overwrite)
    if folder.info.exists():  # finished before, but interrupted while it tidied up
        folder.tidy(json.loads(folder.info.read_text(encoding="utf-8"))["source"])
        return Audit.open(folder, temporary)
    with executor(workers) if isinstance(workers, int) else nullcontext(workers) as pool:  # one for all passes
        with folder.cleared_by(SourceError, ShapeError):
            recorded = kept(source, folder.source / "source.parquet")
            passes = Passes(regrouped(recorded, folder.work / "rows", shard_rows), folder, pool, progress, shard_rows)
            scan = passes.scan()
        _say_once(scan, source)
        with folder.cleared_by(SeparableError, SingularCurvatureError, ConvergenceError):
            _Job(passes, scan, chosen, l2, standardize, seed, encoder).run(
                {**identity, "source": folder.packed(spec_of(recorded))}
            )
    return Audit.open(folder, temporary)


@dataclass(frozen=True)
class _Sample:
    """The rows in memory on which λ2 is chosen and trust checked, and the design all rows go through."""

    positions: list[int]
    ids: pa.Array
    design: Design
    rows: Rows


@dataclass(frozen=True)
class _Job:
    """From a validated source to `audit.json`; each step finds what an interrupted run already wrote."""

    passes: Passes
    scan: Scan
    family: Family
    l2: float | str
    standardize: bool
    seed: int
    encoder: Encoder | None

    def run(self, identity: dict[str, Any]) -> None:
        folder = self.passes.folder
        sample = self._sample()
        head, fit = self._fit(sample)
        noise = self._noise(head, fit, sample)
        mean_logit_variance = float(self.family.spread(fit.curvature.mean_block(second_moment(head, self.scan))))
        head.save(folder.head)
        save_curvature(fit.curvature, folder.curvature)
        shards = self.passes.score(mean_logit_variance, noise)
        trust = self._trust(head, sample)
        folder.finish(
            {
                **identity,
                "assay": version("assay"),
                "versions": {name: version(name) for name in PACKAGES},
                "rows": self.scan.rows,
                "total_weight": self.scan.total_weight,
                "columns": list(head.columns),
                "dropped_columns": [
                    n for n, keep in zip(head.columns, head.design.kept.tolist(), strict=True) if not keep
                ],
                "family": self.family.name,
                "classes": None if head.vocabulary is None else list(head.vocabulary),
                "class_rows": self.scan.class_rows.tolist(),
                "class_weight": self.scan.class_weight.tolist(),
                "targets": list(self.passes.source.targets),
                "l2": head.l2,
                "l2_path": None if head.l2_path is None else [head.l2_path.grid, head.l2_path.loo_loss],
                "sampled_rows": len(sample.positions),
                "iterations": head.iterations,
                "gradient_norm": head.gradient_norm,
                "gradient_scale": head.gradient_scale,
                "condition_number": fit.curvature.condition_number,
                "effective_parameters": fit.curvature.effective_parameters,
                "mean_logit_variance": mean_logit_variance,
                "noise": None if noise is None else noise.tolist(),
                "sign": SIGN,
                "units": UNITS,
                "trust": trust.to_json(),
                **summarise(shards),
                "manifest": manifest(shards, [stop - start for start, stop in self.passes.ranges]),
            }
        )

    def _sample(self) -> _Sample:
        source = self.passes.source
        rows = sample_rows(source, seed=self.seed)
        batch = source.take(rows)
        scan = self.scan
        design = Design.from_moments(scan.mean, scan.scale, scan.constant, standardize=self.standardize)
        return _Sample(rows, batch.ids, design, Rows(design.matrix(batch.x), batch.y, batch.w))

    def _fit(self, sample: _Sample) -> tuple[Head, Fit]:
        """Newton over all rows, from the optimum of the sample where that is not all of them."""
        penalised = sample.design.penalised(penalize_bias=False)
        path = self._choose_l2(sample, penalised)
        l2 = self.l2 if path is None else path.l2
        assert not isinstance(l2, str)
        vocabulary, columns = self.passes.source.vocabulary, self.passes.source.columns
        start = torch.zeros(self.family.K, sample.design.d, dtype=torch.float64)
        settings: dict[str, Any] = {
            "family": self.family, "design": sample.design, "l2": l2, "total_weight": self.scan.total_weight,
            "columns": columns, "vocabulary": vocabulary, "l2_path": path, "encoder": self.encoder,
        }  # fmt: skip
        head = Head(V=start, **settings)
        objective = Objective(
            self.family,
            lambda V: self.passes.moments(at_weights(head, V)),
            head.total_weight,
            l2,
            penalised,
            head.names,
        )
        fit = Newton().minimise(objective, start)
        return Head.from_fit(fit, **settings), fit

    def _choose_l2(self, sample: _Sample, penalised: Tensor) -> L2Path | None:
        """λ2 of the whole data: the sample's best, its total penalty carried over; kept for a resumed run."""
        if self.l2 != "auto":
            return None
        file = self.passes.folder.work / "l2.json"
        if not file.exists():
            points = LeaveOneOutPath().points()
            with stage(self.passes.progress, "choose l2", len(points)) as advance:
                path = LeaveOneOutPath().choose(self.family, sample.rows, penalised, advance=advance)
            share = float(sample.rows.w.sum()) / self.scan.total_weight
            write_json(file, [path.l2 * share, [l2 * share for l2 in path.grid], path.loo_loss])
        l2, grid, losses = json.loads(file.read_text(encoding="utf-8"))
        return L2Path(l2, tuple(grid), tuple(losses))

    def _noise(self, head: Head, fit: Fit, sample: _Sample) -> Tensor | None:
        if self.family.classifies:
            return None
        rows = sample.rows
        scores = read_scores(self.family, fit.curvature, head.V, rows.H, rows.y, rows.w)
        return robust_noise(scores.loo_logits - rows.y)

    def _trust(self, head: Head, sample: _Sample) -> TrustReport:
        file = self.passes.folder.work / "trust.json"
        if not file.exists():
            with stage(self.passes.progress, "check trust", Trust().steps) as advance:
                report = Trust(seed=self.seed).report(head, sample.rows, sample.ids, advance=advance)
            write_json(file, report.to_json())
        return TrustReport.from_json(json.loads(file.read_text(encoding="utf-8")))


def _say_once(scan: Scan, source: Source) -> None:
    """Warnings a user can act on: an index left out, columns that never vary, classes with a single sample."""
    if isinstance(source, TableSource):
        used = {*source.choice.used(), *source.columns}
        if index := [name for name in index_columns(source.store.schema) if name not in used]:
            warnings.warn(
                f"column {index[0]!r} is the index of a frame and left out; use it with features= or id=",
                AssayWarning,
                3,
            )
    constant = [name for name, same in zip(source.columns, scan.constant.tolist(), strict=True) if same]
    if constant:
        shown = ", ".join(constant[:5]) + (", …" if len(constant) > 5 else "")
        warnings.warn(
            f"{len(constant)} of {len(source.columns)} columns never vary and are left out: {shown}", AssayWarning, 3
        )
    single = [name for name, rows in zip(source.vocabulary or (), scan.class_rows.tolist(), strict=False) if rows == 1]
    if single:
        warnings.warn(
            f"{'1 class has' if len(single) == 1 else f'{len(single)} classes have'} a single sample, which nothing "
            f"can confirm: {', '.join(map(repr, single[:5]))}; collect more of them, or drop them",
            AssayWarning,
            3,
        )
