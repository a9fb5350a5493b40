"""The files CIFAR-10 comes in: one Parquet file, the original pickled batches, or folders of pictures."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from ..errors import SourceError
from .pickled import read_pickled

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPLITS = ("train", "test")
BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Listing:
    """What a source holds: the `labels` of the training and then of the test images, and how many are for training.

    `images()` gives every image once, with its place among the labels, in any order.
    """

    labels: NDArray[np.int64]
    train: int
    images: Callable[[], Iterator[tuple[int, NDArray[np.uint8]]]]


def read_parquet(path: Path) -> Listing:
    """Columns `image` (bytes of a JPEG or PNG), `label`, `split` (train, test) and `index`, the row within the split.

    Raises `SourceError` naming the row where a label is outside 0–9, a split is neither, or an index is missing or
    comes twice.
    """
    try:
        with pq.ParquetFile(path) as file:
            if missing := {"image", "label", "split", "index"} - set(file.schema_arrow.names):
                raise SourceError(f"{path} has no column {min(missing)!r}; it needs image, label, split and index")
            table = file.read(columns=["label", "split", "index"])
    except (OSError, pa.ArrowException) as cause:
        raise SourceError(f"{path} cannot be read as Parquet: {cause}; get it again") from cause
    for name in table.column_names:
        if table[name].null_count:
            row = table[name].is_null().to_pylist().index(True)
            raise SourceError(f"{path}, row {row}: there is no {name}; get the file again")
    labels = _checked(table["label"].to_numpy(), str(path))
    places, train = _places(np.array(table["split"].to_pylist()), table["index"].to_numpy(), path)
    ordered = np.empty_like(labels)
    ordered[places] = labels
    return Listing(ordered, train, lambda: _of_parquet(path, places))


def _of_parquet(path: Path, places: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096, columns=["image"]):
                for data in batch.column(0):
                    yield int(places[row]), _decoded(data.as_py(), f"{path}, row {row}")
                    row += 1
    except (OSError, pa.ArrowException) as cause:
        raise SourceError(f"{path}, after row {row}: {cause}; get the file again") from cause


def _places(splits: NDArray[Any], index: NDArray[Any], path: Path) -> tuple[NDArray[np.int64], int]:
    """Each row's place, training first, and how many are for training."""
    if len(unknown := np.flatnonzero(~np.isin(splits, SPLITS))):
        raise SourceError(f"{path}, row {unknown[0]}: the split {str(splits[unknown[0]])!r} is neither train nor test")
    places = np.empty(len(splits), np.int64)
    start = 0
    for split in SPLITS:
        rows = np.flatnonzero(splits == split)
        _check_split(len(rows), split, path)
        seen = np.zeros(len(rows), bool)
        for row in rows:
            if not 0 <= index[row] < len(rows) or seen[index[row]]:
                raise SourceError(
                    f"{path}, row {row}: index {index[row]} of {split} comes twice or is outside 0 to {len(rows) - 1}; "
                    "get the file again"
                )
            seen[index[row]] = True
        places[rows] = start + index[rows]
        start += len(rows)
    return places, int((splits == "train").sum())


def read_batches(path: Path) -> Listing:
    """The five training batches and the test batch of `cifar-10-batches-py`, a folder or its `.tar.gz`, unpickled
    without running any code (`read_pickled`).

    Raises `SourceError` naming the batch, and the row, where one is missing or damaged.
    """
    arrays: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    for name, raw in _packed(path) if path.is_file() else _unpacked(path):
        batch = read_pickled(raw, name)
        if missing := {"data", "labels"} - set(batch):
            raise SourceError(f"{name} has no {min(missing)!r}; it is no batch of CIFAR-10")
        data = np.asarray(batch["data"])
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
            raise SourceError(f"{name} holds {data.dtype} {list(data.shape)}; a batch is uint8 [n, 3072]")
        labels.append(_checked(batch["labels"], name))
        if len(labels[-1]) != len(data):
            raise SourceError(f"{name} has {len(data)} images, but {len(labels[-1])} labels; get it again")
        arrays.append(data.reshape(-1, *SHAPE))
    train = sum(map(len, labels[:-1]))
    return Listing(np.concatenate(labels), train, lambda: enumerate(image for data in arrays for image in data))


def _unpacked(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in BATCHES:
        try:
            yield str(folder / name), (folder / name).read_bytes()
        except OSError as cause:
            raise SourceError(f"{folder / name} cannot be read: {cause}; get the six batches again") from cause


def _packed(path: Path) -> Iterator[tuple[str, bytes]]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if Path(member.name).name in BATCHES else None
                if file is not None:
                    found[Path(member.name).name] = file.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as cause:
        raise SourceError(f"{path} is damaged or ends early: {cause}; get it again") from cause
    for name in BATCHES:
        if name not in found:
            raise SourceError(f"{path} holds no {name}; get it again")
        yield f"{path}: {name}", found.pop(name)


def read_folders(path: Path) -> Listing:
    """`train/<class>/*.png` and `test/<class>/*.png` (or .jpg), in order of class and file name.

    A class is a name of `CLASSES` or a digit. Raises `SourceError` for another, or a split without pictures.
    """
    files: list[Path] = []
    labels: list[int] = []
    counts: list[int] = []
    for split in SPLITS:
        before = len(files)
        for folder in sorted(f for f in (path / split).glob("*") if f.is_dir()):
            pictures = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".png", ".jpg", ".jpeg"))
            files += pictures
            labels += [_class(folder)] * len(pictures)
        counts.append(len(files) - before)
        _check_split(counts[-1], split, path)

    def images() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for place, file in enumerate(files):
            try:
                data = file.read_bytes()
            except OSError as cause:
                raise SourceError(f"{file}, row {place}: cannot be read: {cause}; get it again") from cause
            yield place, _decoded(data, f"{file}, row {place}")

    return Listing(np.array(labels, np.int64), counts[0], images)


def _class(folder: Path) -> int:
    names = [*CLASSES, *map(str, range(10))]
    if folder.name not in names:
        raise SourceError(f"{folder} is no class of CIFAR-10; name it 0–9, or one of {', '.join(CLASSES)}")
    return names.index(folder.name) % 10


def _check_split(rows: int, split: str, path: Path) -> None:
    if not rows:
        raise SourceError(f"{path} has no images of the split {split!r}; CIFAR-10 has train and test, get both")


def _checked(labels: Any, name: str) -> NDArray[np.int64]:
    values = np.asarray(labels)
    if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
        raise SourceError(f"{name} holds labels of {values.dtype} {list(values.shape)}; they are whole numbers 0–9")
    if len(outside := np.flatnonzero((values < 0) | (values > 9))):
        raise SourceError(f"{name}, row {outside[0]}: the label is {values[outside[0]]}; CIFAR-10 has classes 0–9")
    return values.astype(np.int64)


def _decoded(data: bytes | None, name: str) -> NDArray[np.uint8]:
    """A picture's bytes as `[3, 32, 32]`."""
    if data is None:
        raise SourceError(f"{name}: there is no image; get the file again")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.size != (32, 32) or image.mode != "RGB":
                raise SourceError(f"{name}: the image is {image.size} {image.mode}; CIFAR-10 is (32, 32) RGB")
            return np.asarray(image).transpose(2, 0, 1)
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as cause:
        raise SourceError(f"{name}: the image is damaged: {cause}; get the file again") from cause
