"""A folder of images as a map-style data set: one sub-folder a class."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import AssayWarning, SourceError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def image_tensor(image: Image.Image) -> Float32[Tensor, "c h w"]:
    """A picture as numbers in [0, 1], grey ones (16 bits too) with one channel, all others as RGB."""
    if image.mode.startswith("I"):
        return torch.from_numpy(np.asarray(image, dtype=np.float32)[None] / 65535)
    plain = image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.asarray(plain, dtype=np.float32) / 255
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1)))


class ImageFolder:
    """`folder/class/…/*.png` (and other formats): item k is `(transform(image), class code)`, in order of the names.

    `classes` are the sub-folders' names, sorted; `ids` the files' paths from the folder, which stay with the samples.
    Without a `transform` the image is a float tensor [c, h, w] in [0, 1]. `corrupt="skip"` reads every file once and
    leaves out those that cannot be decoded, saying how many; `corrupt="raise"` names the first when it is read. Raises
    `SourceError` where there is no image, or images lie beside the class folders.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        transform: Callable[[Image.Image], Any] = image_tensor,
        corrupt: str = "raise",
    ) -> None:
        if corrupt not in ("raise", "skip"):
            raise SourceError(f'corrupt={corrupt!r} is neither "raise" nor "skip"')
        self.folder, self.transform = Path(folder), transform
        files = _images(self.folder)
        self.skipped = tuple(file for file in files if corrupt == "skip" and not _readable(file))
        if self.skipped:
            warnings.warn(
                f"{len(self.skipped):,} of {len(files):,} images cannot be decoded and are left out, the first is "
                f"{self.skipped[0]}",
                AssayWarning,
                2,
            )
        self.files = tuple(file for file in files if file not in set(self.skipped))
        self.classes = tuple(sorted({file.relative_to(self.folder).parts[0] for file in files}))
        self.labels = tuple(self.classes.index(file.relative_to(self.folder).parts[0]) for file in self.files)
        self.ids = tuple(file.relative_to(self.folder).as_posix() for file in self.files)
        if not self.files:
            raise SourceError(f"none of the {len(files)} images in {folder} can be decoded")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int) -> tuple[Any, int]:
        file = self.files[k]
        try:
            with Image.open(file) as image:
                image.load()
                return self.transform(image), self.labels[k]
        except (UnidentifiedImageError, OSError, SyntaxError) as cause:
            raise SourceError(
                f'{file} cannot be decoded ({cause}); mend or remove it, or leave such files out: corrupt="skip"'
            ) from cause


def holds_images(path: Path) -> bool:
    """Whether a path is a folder, and not one of Parquet files."""
    return path.is_dir() and not any(path.rglob("*.parquet"))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder of images")
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise SourceError(f"there are no images in {folder}; it has folder/class/*.png, or another of {_some()}")
    if loose := next((file for file in found if file.parent == folder), None):
        raise SourceError(f"{loose} lies beside the class folders; put every image into the folder of its class")
    return found


def _some() -> str:
    return ", ".join(sorted(SUFFIXES))


def _readable(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError):
        return False
    return True
