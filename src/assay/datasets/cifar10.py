"""CIFAR-10 (Krizhevsky 2009): 60,000 pictures of 32 × 32 pixels in ten classes, decoded once to a memory map."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engine import Progress, atomic, stage
from ..errors import OutputError, SourceError
from .cifar10_files import CLASSES, SHAPE, Listing, read_batches, read_folders, read_parquet
from .download import check_room, download

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"

MISTAKEN = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
"""For `flip_by_class`: truck → automobile, bird → airplane, deer → horse, cat ↔ dog (Patrini et al. 2017)."""

STEP = 1000  # images between two signs of progress


@dataclass(frozen=True)
class Cifar10:
    """`images` `[n, 3, 32, 32]` uint8, `labels` `[n]` int64: the training images first, each split in its own order.

    The images are a copy-on-write memory map, which `torch.from_numpy(data.images)` shares: what is written to it stays
    in this process.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train_rows: int
    classes = CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def train(self) -> slice:
        """The rows for training, 50,000 in the published set."""
        return slice(0, self.train_rows)

    @property
    def test(self) -> slice:
        """The rows for testing, 10,000 in the published set."""
        return slice(self.train_rows, len(self))


def cifar10(path: Path | str | None = None, *, cache: Path | None = None, progress: Progress | None = None) -> Cifar10:
    """The data set in one of its forms: a Parquet file, `cifar-10-batches-py` or its `.tar.gz`, folders of pictures.

    path: the file, or a folder that holds it. By default `$ASSAY_DATA`, then what `$CIFAR10_URL` (http, https or file)
    names, downloaded to the cache. cache: a folder, `~/.cache/assay` by default; images are decoded there once for each
    content of the source. Raises `SourceError` naming file and row where the data are missing or damaged, `OutputError`
    where the cache has no room.
    """
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "assay"
    source, read = _form(Path(path)) if path is not None else _default(folder, progress)
    images = folder / f"cifar10-{_digest(source)}.npy"
    rows = images.with_name(f"{images.stem}-rows.npy")
    if not _whole(images, rows):
        _decode(read(source), images, rows, progress)
    labels, test = np.load(rows).astype(np.int64).T
    return Cifar10(np.load(images, mmap_mode="c"), np.ascontiguousarray(labels), int((test == 0).sum()))


Reader = Callable[[Path], Listing]


def _default(cache: Path, progress: Progress | None) -> tuple[Path, Reader]:
    place, url = os.environ.get("ASSAY_DATA"), os.environ.get("CIFAR10_URL")
    found = _find(Path(place)) if place else None
    if found is not None:
        return found
    if url:
        return _form(download(url, cache, progress=progress))
    raise SourceError(
        f"{f'$ASSAY_DATA ({place}) holds no CIFAR-10' if place else 'CIFAR-10 is not here'}; download {URL} and give "
        f"its path or set ASSAY_DATA to its folder, or set CIFAR10_URL={URL} to have it downloaded"
    )


def _form(path: Path) -> tuple[Path, Reader]:
    """The data of this file or folder, and what reads it."""
    if path.suffix == ".parquet" and path.is_file():
        return path, read_parquet
    if path.name.endswith((".tar.gz", ".tgz", ".tar")) and path.is_file():
        return path, read_batches
    if (found := _find(path)) is not None:
        return found
    what = "holds no CIFAR-10" if path.exists() else "is not there"
    raise SourceError(
        f"{path} {what}; give cifar10.parquet, cifar-10-batches-py or its .tar.gz ({URL}), or a folder with "
        "train/<class> and test/<class>"
    )


def _find(folder: Path) -> tuple[Path, Reader] | None:
    """The first form of the data that the folder is or holds."""
    forms: list[tuple[str, str, Reader]] = [
        ("cifar10.parquet", "", read_parquet),
        ("cifar-10-batches-py", "", read_batches),
        ("data_batch_1", ".", read_batches),
        ("cifar-10-python.tar.gz", "", read_batches),
        ("train", ".", read_folders),
        ("test", ".", read_folders),
    ]
    for name, at, read in forms:
        if (folder / name).exists():
            return folder / (at or name), read
    return None


def _digest(source: Path) -> str:
    """Of the content; of names, sizes and times where it is a folder."""
    digest = hashlib.blake2b(b"1", digest_size=8)
    if source.is_file():
        with open(source, "rb") as file:
            return hashlib.file_digest(file, lambda: digest).hexdigest()
    for file in sorted(file for file in source.rglob("*") if file.is_file()):
        at = file.stat()
        digest.update(f"{file.relative_to(source)} {at.st_size} {at.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _whole(images: Path, rows: Path) -> bool:
    """Whether both files are there with all their bytes: the rows are written last."""
    try:
        return np.load(images, mmap_mode="r").shape == (len(np.load(rows, mmap_mode="r")), *SHAPE)
    except (OSError, ValueError, EOFError):
        return False


def _decode(listing: Listing, images: Path, rows: Path, progress: Progress | None) -> None:
    n, size = len(listing.labels), int(np.prod(SHAPE))
    try:
        images.parent.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise OutputError(f"{images.parent} cannot be written: {cause}; name another cache") from cause
    check_room(images.parent, n * (size + 2) + 256)
    steps = stage(progress, "decode CIFAR-10", -(-n // STEP))
    with atomic(images) as temporary, open(temporary, "wb") as file, steps as advance:
        header = {"descr": "|u1", "fortran_order": False, "shape": (n, *SHAPE)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        for done, (place, image) in enumerate(listing.images()):
            file.seek(start + place * size)
            file.write(image.tobytes())
            if done % STEP == 0:
                advance()
    split = np.arange(n) >= listing.train
    with atomic(rows) as temporary:
        np.save(temporary, np.stack([listing.labels, split], 1).astype(np.uint8))
