"""The passes of an audit over its source, each a list of shard tasks."""

from __future__ import annotations

import hashlib
import shutil
import threading
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from functools import lru_cache, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..curvature.dense import Curvature
from ..engine import Progress, Task, atomic, run, shard_ranges
from ..explore.judge import label_bins
from ..explore.kinds import tell_kinds
from ..explore.transitions import Transitions
from ..explore.trim import BINS, loss_bins
from ..head import Head
from ..l2 import CHUNK
from ..newton import Moments, moments
from ..scores import Scores, read_scores
from ..sources.scan import Scan, merge, scan_shard
from ..sources.source import Batch, Source
from .columns import score_table
from .folder import Folder
from .weighing import Drawn, Weighing


@dataclass(frozen=True)
class Passes:
    """Passes over one source, for one folder, on one executor; `moments` at the weights of a `weighing`, if any."""

    source: Source
    folder: Folder
    workers: int | Executor | None = None
    progress: Progress | None = None
    shard_rows: int = 16_384
    weighing: Weighing | None = None

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return shard_ranges(len(self.source), self.shard_rows)

    def _run(self, tasks: list[Task], stage: str) -> list[Path]:
        run(tasks, workers=self.workers, progress=self.progress, stage=stage)
        return [task.output for task in tasks]

    def scan(self, head: Head | None = None) -> Scan:
        """Validates every row and sums what standardisation needs; raises `SourceError`.

        Where a `head` is known already its moments are summed in the same reading, and `moments` finds them.
        """
        path = self.folder.work / "scan.npz"
        if not path.exists():
            state = None if head is None else self.folder.work / "known.safetensors"
            if head is not None and state is not None:
                head.save(state)
            outputs = [self.folder.work / "read" / f"part-{k:05d}.npz" for k in range(len(self.ranges))]
            pairs = zip(self.ranges, outputs, strict=True)
            self._run([Task(_read_task, (self.source, *span, state), output) for span, output in pairs], "read")
            if head is not None:
                self._keep(self._total(head), reduce(add, (Moments(**_part(output, sums=True)) for output in outputs)))
            with atomic(path, resumes=True) as temporary:
                merge((_part(output, sums=False) for output in outputs), self.source).save(temporary)
            shutil.rmtree(self.folder.work / "read")
        return Scan.load(path)

    def moments(self, head: Head) -> Moments:
        """The sums at the head's weights; kept by the weights' hash, so an interrupted fit finds them again."""
        total = self._total(head)
        if not total.exists():
            parts = total.with_suffix("")
            parts.mkdir(parents=True, exist_ok=True)
            state = parts / "head.safetensors"
            head.save(state)
            outputs = [parts / f"part-{k:05d}.safetensors" for k in range(len(self.ranges))]
            pairs = zip(self.ranges, outputs, strict=True)
            tasks = [Task(_moments_task, (self.source, *span, state, self.weighing), output) for span, output in pairs]
            self._run(tasks, "fit" if self.weighing is None else "trim")
            self._keep(total, reduce(add, (Moments(**load_file(output)) for output in outputs)))
            shutil.rmtree(parts)
        return Moments(**load_file(total))

    def _total(self, head: Head) -> Path:
        name = hashlib.blake2b(head.V.numpy().tobytes(), digest_size=12).hexdigest()
        kept = self.folder.work if self.weighing is None else self.weighing.bins.parent
        return kept / "moments" / f"{name}.safetensors"

    @staticmethod
    def _keep(path: Path, sums: Moments) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path, resumes=True) as temporary:
            save_file(_tensors(sums), temporary)

    def loss_bins(
        self, folder: Path, weighing: Weighing | Drawn | None, suspected: Weighing | None = None
    ) -> list[Path]:
        """For each shard the `bins` of its leave-one-out losses under the head in a folder, fitted at a weighing, and
        the `weight` of each of its `cells` (class × bin).

        Classes that the folder says are mistaken count for more; the highest bin is that of those `suspected` before.
        """
        outputs = [folder / f"part-{k:05d}.npz" for k in range(len(self.ranges))]
        context = (folder, weighing, suspected)
        pairs = zip(self.ranges, outputs, strict=True)
        return self._run([Task(_bins_task, (self.source, *span, *context), output) for span, output in pairs], "trim")

    def score(
        self,
        mean_logit_variance: float,
        noise: Tensor | None,
        *,
        trained: Head | None = None,
        judge: Weighing | None = None,
    ) -> list[Path]:
        """Writes the score shards against the folder's head and curvature, and Cook's distance of a `trained` head.

        Labels are judged by the folder's trimmed head where `judge` says whom it left out, and by which classes are
        mistaken for which where the folder says so.
        """
        beside: tuple[Path, Path] | None = None
        if trained is not None:
            beside = (self.folder.work / "trained.safetensors", self.folder.work / "trained_curvature.safetensors")
            trained.save(beside[0])
            save_curvature(trained.curvature_from(self.moments(trained).curvature), beside[1])
        context = (self.folder, mean_logit_variance, noise, beside, judge)
        outputs = [self.folder.shard(k) for k in range(len(self.ranges))]
        pairs = zip(self.ranges, outputs, strict=True)
        return self._run([Task(_score_task, (self.source, *span, *context), output) for span, output in pairs], "score")


def _tensors(sums: Moments) -> dict[str, Tensor]:
    return {field.name: getattr(sums, field.name).contiguous() for field in fields(sums)}


def _read_task(source: Source, start: int, stop: int, state: Path | None, temporary: Path) -> None:
    """The scan of a shard and, as `sums.…`, the moments at the head in `state`."""
    if state is None:
        arrays = scan_shard(source, start, stop)
    else:
        head, found = Head.load(state), list[Moments]()
        arrays = scan_shard(source, start, stop, also=lambda batch: found.append(_sums(head, batch)))
        arrays |= {f"sums.{name}": value.numpy() for name, value in _tensors(reduce(add, found)).items()}
    np.savez(temporary, **arrays)  # pyright: ignore[reportArgumentType]  # arrays by name


def _part(path: Path, *, sums: bool) -> dict[str, Any]:
    """What `_read_task` wrote: the moments as tensors, or the scan's arrays."""
    with np.load(path) as arrays:
        if sums:
            return {field.name: torch.from_numpy(arrays[f"sums.{field.name}"]) for field in fields(Moments)}
        return {name: arrays[name] for name in arrays.files if not name.startswith("sums.")}


def _sums(head: Head, batch: Batch) -> Moments:
    H = head.design.matrix(batch.x)
    pieces = zip(H.split(CHUNK), batch.y.split(CHUNK), batch.w.split(CHUNK), strict=True)
    return reduce(add, (moments(head.family, head.V, h, y, w) for h, y, w in pieces))


def _moments_task(
    source: Source, start: int, stop: int, state: Path, weighing: Weighing | None, temporary: Path
) -> None:
    head, found = Head.load(state), list[Moments]()
    for batch in source.batches(CHUNK, start=start, stop=stop):
        found.append(_sums(head, batch if weighing is None else batch._replace(w=weighing.weights(batch, start))))
        start += len(batch.w)
    save_file(_tensors(reduce(add, found)), temporary)


def _bins_task(
    source: Source,
    start: int,
    stop: int,
    folder: Path,
    weighing: Weighing | Drawn | None,
    suspected: Weighing | None,
    temporary: Path,
) -> None:
    head, curvature = load_state(folder / "head.safetensors", folder / "curvature.safetensors")
    file = folder / "mistaken.safetensors"
    mistaken = Transitions.load(file) if file.exists() else None
    bins: list[Tensor] = []
    cells: list[Tensor] = []
    weights: list[Tensor] = []
    for batch in source.batches(CHUNK, start=start, stop=stop):
        w = batch.w if weighing is None else weighing.weights(batch, start)
        H = head.design.matrix(batch.x)
        scores = read_scores(head.family, curvature, head.V, H, batch.y, w)
        found = loss_bins(scores) if mistaken is None else label_bins(head.family, scores, batch.y, mistaken)
        bins.append(found if suspected is None else found.where(suspected.weights(batch, start) > 0, BINS - 1))
        cells.append(batch.y * BINS + bins[-1])
        weights.append(batch.w)
        start += len(batch.w)
    used, place = torch.cat(cells).unique(return_inverse=True)
    weight = torch.bincount(place, weights=torch.cat(weights))
    np.savez(temporary, bins=torch.cat(bins).numpy().astype(np.uint16), cells=used.numpy(), weight=weight.numpy())


def _score_task(
    source: Source,
    start: int,
    stop: int,
    folder: Folder,
    mean_logit_variance: float,
    noise: Tensor | None,
    beside: tuple[Path, Path] | None,
    judge: Weighing | None,
    temporary: Path,
) -> None:
    head, curvature = load_state(folder.head, folder.curvature)
    trained = None if beside is None else load_state(*beside)
    trimmed = None if judge is None else load_state(folder.trimmed_head, folder.trimmed_curvature)
    mistaken = Transitions.load(folder.mistaken).log_relative if folder.mistaken.exists() else None
    writer: Any = None  # pyarrow is untyped
    for batch in source.batches(CHUNK, start=start, stop=stop):
        H = head.design.matrix(batch.x)
        scores = read_scores(head.family, curvature, head.V, H, batch.y, batch.w)
        judged: Scores | None = None
        if judge is not None and trimmed is not None:
            w = judge.weights(batch, start)
            judged = read_scores(head.family, trimmed[1], trimmed[0].V, H, batch.y, w)
        kinds = tell_kinds(
            head.family, scores, batch.y, mean_logit_variance=mean_logit_variance, noise=noise, judge=judged,
            log_relative=mistaken,
        )  # fmt: skip
        table = score_table(batch, start, head.family, scores, kinds, head.vocabulary)
        if trained is not None:
            other, curved = trained
            distance = read_scores(
                other.family, curved, other.V, other.design.matrix(batch.x), batch.y, batch.w
            ).cooks_distance
            table = table.append_column("trained_cooks_distance", pa.array(distance.numpy()))
        writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
        writer.write_table(table)
        start += len(batch.ids)
    if writer is not None:
        writer.close()


def save_curvature(curvature: Curvature, path: Path) -> None:
    """The packed blocks of A, without the penalty."""
    with atomic(path, resumes=True) as temporary:
        save_file({"packed": curvature.packed.contiguous()}, temporary)


_LOADING = threading.Lock()


def load_state(head: Path, curvature: Path) -> tuple[Head, Curvature]:
    """A saved head and its curvature, factorised; once a process, however many threads ask."""
    with _LOADING:
        return _load_state(head, curvature, head.stat().st_mtime_ns, curvature.stat().st_mtime_ns)


@lru_cache(maxsize=6)
def _load_state(head_path: Path, curvature_path: Path, *_written: int) -> tuple[Head, Curvature]:
    head = Head.load(head_path)
    curvature = head.curvature_from(load_file(curvature_path)["packed"])
    curvature.prepare()
    return head, curvature


def second_moment(head: Head, scan: Scan) -> Tensor:
    """Mean of `h hᵀ` over the samples (by weight), from the moments of the columns."""
    design, kept = head.design, head.design.kept
    scale = design.scale
    centre = (scan.mean[kept] - design.mean) / scale
    inner = scan.comoment[kept][:, kept] / scan.total_weight / scale[:, None] / scale + centre[:, None] * centre
    full = torch.ones(design.d, design.d, dtype=torch.float64)
    width = len(scale)
    full[:width, :width] = inner
    if design.bias:
        full[:width, -1] = full[-1, :width] = centre
    return full


def at_weights(head: Head, V: Tensor) -> Head:
    return replace(head, V=V)
