"""`audit`: the main job, from a source to a finished folder."""

from __future__ import annotations

import json
import warnings
from concurrent.futures import Executor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from ..curvature.dense import refuse_too_large
from ..encoder import Encoder
from ..engine import SHARD_ROWS, Progress
from ..errors import (
    AssayWarning,
    ConvergenceError,
    SeparableError,
    ShapeError,
    SingularCurvatureError,
    SourceError,
)
from ..families import check_name, family_of
from ..features.encode import Encoded
from ..features.keep import Encoding
from ..features.network import Network, Ran, TrainedLayer
from ..l2 import checked_damping, checked_l2
from ..pool import executor
from ..sources.choose import index_columns
from ..sources.open import open_source
from ..sources.scan import Scan
from ..sources.source import Source
from ..sources.table import TableSource
from .folder import Folder, Temporary
from .job import Job
from .keep import kept, regrouped, spec_of
from .model import of_estimator
from .passes import Passes
from .result import Audit


def audit(
    data: Any,
    *,
    label: str | list[str] | None = None,
    features: str | list[str] | None = None,
    embedding: str | None = None,
    id: Any = None,
    weight: Any = None,
    family: Any = None,
    l2: float | str = "auto",
    standardize: bool = True,
    model: Any = None,
    layer: str | None = None,
    refit: bool | str = True,
    damping: float = 0.0,
    optimizer: Any = None,
    encoding: Encoding | None = None,
    image_shape: tuple[int, ...] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    workers: int | Executor | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    shard_rows: int = SHARD_ROWS,
    trim: bool = True,
) -> Audit:
    """Measures for every sample how different the model would be without it, ranks the samples and says why.

    Fits the convex head `min_V (1/N) Σ w ℓ(V h, y) + (λ2/2)‖D V‖²` to the columns, then reads Cook's distance,
    leverage, logit variance and the leave-one-out answer of every row from its leverage block, tells mislabeled,
    under-represented and boundary samples apart, and checks whether all that can be trusted.

    - `data`: a path (Parquet file, folder or glob, CSV, NPZ), a pandas, polars or Arrow table, or `(X, y)` or
      `(X, y, ids)` arrays; `label`, `features`, `embedding`, `id`, `weight` name its columns.
    - `family`: "softmax" (default for classes), "logistic" (two classes), "linear" (default for numeric targets); with
      a network also its loss, such as `nn.CrossEntropyLoss()`.
    - `l2`: λ2, or "auto" to minimise the leave-one-out loss (on a seeded sample of 20,000 rows where there are more,
      its total penalty `N λ2` carried over).
    - `standardize`: columns are centred and scaled to unit variance first.
    - `model`: a fitted scikit-learn estimator, or a pipeline that ends in one, instead of family, λ2 and
      standardisation: `data` is the `(X, y)` it was fitted to. Columns are what its last step takes
      (`Head.from_sklearn` says which estimators have an equal here). Or a trained `nn.Module` that returns logits (a
      skorch net is asked for its `module_`): columns are what comes into its last linear layer, as they are, and the
      head is fitted to them anew. `data` is then a torch data set or loader, a Hugging Face data set, the path of a
      folder of images, `(X, y)` with X of any shape, or a table whose feature columns are the inputs.
    - `layer`: the name of the network's last linear layer, where it is not the last one called.
    - `refit`: False keeps the trained head, as the paper did, and needs `l2` (λ2 of its objective), an `optimizer`
      (whose weight decay is read) or `damping` (added to the curvature); "both" scores the refitted head and puts
      `trained_cooks_distance` beside. `info["trained"]` has the trained head's gradient norm either way.
    - `encoding`: device, precision, and where the embedding is kept (`assay.Encoding`).
    - `trim`: labels (not targets) are judged by a head fitted again without those most in doubt, `info["trimmed"]`
      says how many, and by which classes are mistaken for which more often than others (`info["mistaken"]`): more of
      the wrong ones come first (docs/images.md), for about twice the passes, three times where the head has learnt such
      mistakes. A kept head judges them itself.
    - `image_shape`: (h, w) or (h, w, c) where a row is an image.
    - `out`: the audit's folder. An interrupted audit of the same data and arguments is resumed there; without `out` the
      audit lives in a temporary folder until `save`.
    - `workers`: None for the threads of this process, a number of processes, or any executor. Same bytes whichever.

    Memory is bounded by `O(P² + shard · P)`, whatever the number of rows. Raises `SourceError`, `ShapeError`,
    `OutputError`, `SeparableError`, `SingularCurvatureError`, `ConvergenceError`, `EngineError`.

    Source: Picard et al., "Influence functions for dataset exploration and cleaning".
    """
    encoder: Encoder | None = None
    module = model if isinstance(model, nn.Module) else getattr(model, "module_", None)
    network = None
    if module is not None:
        network = Network(module, layer, family, refit, checked_damping(damping), optimizer, encoding or Encoding())
        standardize = False
    elif (layer, refit, damping, optimizer, encoding) != (None, True, 0.0, None, None):
        raise ShapeError("layer=, refit=, damping=, optimizer= and encoding= are of a network; give one as model=")
    elif model is not None:
        modelled = of_estimator(model, data, weight, family=family, l2=l2)
        data, weight, family, l2 = modelled.data, modelled.weight, modelled.family, modelled.l2
        encoder, standardize = modelled.encoder, False
    if l2 != "auto":
        l2 = checked_l2(l2)
    if family is not None and network is None:
        check_name(family)
    if shard_rows < 1 or seed < 0:
        raise ShapeError(f"shard_rows={shard_rows}, seed={seed}; a shard has at least one row, a seed is not negative")
    temporary = Temporary() if out is None else None
    folder = Folder.claim(temporary.path if temporary else Path(out or "."), overwrite=overwrite)
    with folder.cleared_by(SourceError, ShapeError, keep=folder.run.exists()):
        columns: dict[str, Any] = {
            "label": label, "features": features, "embedding": embedding, "id": id, "weight": weight,
        }  # fmt: skip
        trained: TrainedLayer | None = None
        ran: Ran | None = None
        encoded: Encoded | None = None
        if network is not None:
            found = network.of(data, l2=l2, folder=folder.source, progress=progress, **columns)
            source, family, encoder, trained = found.source, found.family, found.encoder, found.layer
            ran, encoded = found.run, found.encoded
        else:
            source = open_source(
                data, **columns, regression=None if family is None else family == "linear",
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
            "trim": trim,
            "encoder": None if encoder is None else encoder.name,
        }
        if trained is not None and ran is not None:
            arguments |= {"refit": refit, "damping": damping, "trained_l2": trained.l2}
            arguments |= {"penalize_bias": trained.penalize_bias, "network": vars(ran)}
        identity = {"fingerprint": source.fingerprint(), "arguments": arguments}
        folder.begin(identity, overwrite=overwrite)
    if folder.info.exists():  # finished before, but interrupted while it tidied up
        folder.tidy(json.loads(folder.info.read_text(encoding="utf-8"))["source"])
        return Audit.open(folder, temporary, source)
    with executor(workers) if isinstance(workers, int) else nullcontext(workers) as pool:  # one for all passes
        with folder.cleared_by(SourceError, ShapeError):
            recorded = kept(source, folder.source / "source.parquet")
            passes = Passes(regrouped(recorded, folder.work / "rows", shard_rows), folder, pool, progress, shard_rows)
            scan = passes.scan(None if trained is None else trained.at(chosen, recorded))
        _say_once(scan, source, dropped=trained is None or trained.refit)
        with folder.cleared_by(SeparableError, SingularCurvatureError, ConvergenceError):
            Job(passes, scan, chosen, l2, standardize, seed, encoder, trained, trim, encoded).run(
                {**identity, "source": folder.packed(spec_of(recorded, folder.source / "source.parquet"))}
            )
    return Audit.open(folder, temporary, source)


def _say_once(scan: Scan, source: Source, *, dropped: bool) -> None:
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
    if constant and dropped:
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
