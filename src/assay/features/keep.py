"""Where an embedding is kept: in memory, in memory-mapped files, or nowhere; the scores are the same bit for bit."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from ..engine import SHARD_ROWS, Progress, atomic, stage
from ..errors import ShapeError, SourceError
from ..sources.arrow_files import ArrowFiles
from ..sources.choose import choose
from ..sources.store import Memory, Store
from ..sources.table import TableSource
from .encode import FEATURES, ID, LABEL, PICTURE, WEIGHT, Encoded
from .recomputed import Recomputed

KEEP = ("auto", "memory", "file", "recompute")


@dataclass(frozen=True)
class Encoding:
    """How a network is run over its training set, and where what comes into its last layer is kept.

    - `device`: "cpu", "cuda", "mps" (a copy of the model goes there); None is where the model is.
    - `precision`: "fp32" (the model's own), or "bf16", autocast.
    - `keep`: "memory"; "file", memory-mapped Arrow files in the audit's folder, from which an interrupted run goes on;
      "recompute", the network is run again on every pass; "auto" is memory up to `budget` bytes, files where they fit
      on the disk, else recomputed.
    - `batch`: samples at a time (a loader's own, where one is given).
    - `mirror`: True runs images as they are and mirrored, left to right, and the embedding is the mean of both. For a
      network trained with mirroring: what a single view gets wrong by chance is less, at twice the time. "only" runs
      mirror images alone. For a network trained without that knows its images by heart: it has not seen those. None
      says that a mirror image means something else, as of a letter: the trust report does not compare them then.
    """

    device: str | None = None
    precision: str = "fp32"
    keep: str = "auto"
    budget: int = 1 << 30
    batch: int | None = None
    mirror: bool | str | None = False

    def __post_init__(self) -> None:
        if self.mirror not in (True, False, "only", None):
            raise ShapeError(f'mirror={self.mirror!r} is not True, False, "only" or None')
        if self.precision not in ("fp32", "bf16"):
            raise ShapeError(f'precision={self.precision!r} is neither "fp32" nor "bf16"')
        if self.keep not in KEEP:
            raise ShapeError(f"keep={self.keep!r} is not one of {', '.join(KEEP)}")
        if self.batch is not None and self.batch < 1:
            raise ShapeError(f"batch={self.batch}; run at least one sample at a time")

    def placed(self, model: nn.Module) -> nn.Module:
        """The model, or a copy of it on the device; raises `SourceError` where the device is not there."""
        if self.device is None:
            return model
        kind = torch.device(self.device).type
        there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there.get(kind, False):
            usable = ", ".join(name for name, has in there.items() if has)
            raise SourceError(f"device={self.device!r} is not on this machine (usable: {usable}); leave it out")
        if next(model.parameters(), torch.empty(0)).device == torch.device(self.device):
            return model
        return copy.deepcopy(model).to(self.device)

    def chosen(self, encoded: Encoded, folder: Path | None) -> str:
        """`keep`, with "auto" decided by the size of the embedding."""
        if self.keep != "auto":
            return self.keep
        first = next(encoded.batches(0, min(encoded.examples.batch, len(encoded))))
        size = len(encoded) * first.nbytes / len(first)
        if folder is None or size <= self.budget:
            return "memory"
        return "file" if size * 1.2 < shutil.disk_usage(_existing(folder)).free else "recompute"


def keep(
    encoded: Encoded, encoding: Encoding, folder: Path | None = None, progress: Progress | None = None
) -> TableSource:
    """The embedding of all samples as a source, computed now (or, "recompute", whenever it is read)."""
    how = encoding.chosen(encoded, folder)
    if how == "recompute":
        return source_of(encoded, Recomputed(encoded))
    if how == "memory" or folder is None:
        total = -(-len(encoded) // encoded.examples.batch)
        with stage(progress, "encode", total) as advance:
            pieces: list[pa.RecordBatch] = []
            for piece in encoded.batches():
                pieces.append(piece)
                advance()
        return source_of(encoded, Memory(pa.Table.from_batches(pieces)))
    return source_of(encoded, ArrowFiles.open(_write(encoded, folder, progress)))


def source_of(encoded: Encoded, store: Store) -> TableSource:
    """A store of encoded samples with its columns in their roles."""
    names = store.schema.names
    several = [name for name in names if name.startswith(LABEL) and name.removeprefix(LABEL).isdigit()]
    known = encoded.examples.classes if encoded.family != "linear" else None
    named = known is not None and store.schema.field(LABEL).type == pa.string()
    source = choose(
        store,
        label=LABEL if LABEL in names else several,
        embedding=FEATURES,
        id=ID if ID in names else None,
        weight=WEIGHT if WEIGHT in names else None,
        regression=encoded.family == "linear",
        vocabulary=known if named and isinstance(store, Recomputed) else None,  # those that occur are not sought
    )
    vocabulary = source.vocabulary
    if named and known is not None and vocabulary is not None:
        vocabulary = tuple(name for name in known if name in set(vocabulary))
    columns = tuple(f"x{j}" for j in range(len(source.columns)))
    picture = PICTURE if PICTURE in names else None
    return TableSource(store, source.choice, columns, vocabulary, source.targets, source.key, picture=picture)


def _write(encoded: Encoded, folder: Path, progress: Progress | None) -> list[Path]:
    """The shards of this network's embedding; those that are there already are kept where they are of these samples."""
    size = encoded.examples.batch
    rows = size * max(1, SHARD_ROWS // size)
    starts = range(0, len(encoded), rows)
    key = encoded.split.fingerprint()[:12]
    paths = [folder / f"features-{key}-{k:05d}.arrow" for k in range(len(starts))]
    folder.mkdir(parents=True, exist_ok=True)
    with stage(progress, "encode", -(-len(encoded) // size)) as advance:
        for start, path in zip(starts, paths, strict=True):
            stop = min(start + rows, len(encoded))
            if path.exists() and _is_same(encoded, start, stop, path):
                for _ in range(start, stop, size):
                    advance()
                continue
            with (
                atomic(path, resumes=True) as temporary,
                pa.OSFile(str(temporary), "wb") as file,
                pa.ipc.new_file(file, encoded.schema) as writer,
            ):
                for piece in encoded.batches(start, stop):
                    writer.write_batch(piece)
                    advance()
    return paths


def _is_same(encoded: Encoded, start: int, stop: int, path: Path) -> bool:
    """Whether a shard holds these very samples: all ids, labels and weights, and the features of its first block."""
    kept = ArrowFiles.open([path])
    if len(kept) != stop - start or kept.schema.names != encoded.schema.names:
        return False
    size, known = encoded.examples.batch, encoded.known
    before = kept.read(known, 0, len(kept), size)
    if not all(a.equals(b) for a, b in zip(encoded.batches(start, stop, columns=known), before, strict=True)):
        return False
    now = next(encoded.batches(start, min(start + size, stop), columns=[FEATURES])).column(0)
    then = next(kept.read([FEATURES], 0, len(now), size)).column(0)
    return bool(np.allclose(*(side.flatten().to_numpy(zero_copy_only=False) for side in (now, then)), rtol=1e-3))


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.absolute().parent)
