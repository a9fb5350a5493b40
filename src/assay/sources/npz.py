"""NPY and NPZ files, never unpickled, memory-mapped where they lie uncompressed."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from ..errors import SourceError
from . import arrays
from .store import Memory

MEMBERS = {  # names looked for in an NPZ, in this order
    "features": ("X", "features", "x", "embeddings"),
    "labels": ("y", "labels", "label"),
    "ids": ("ids", "id"),
    "weights": ("weights", "weight"),
}


@dataclass(frozen=True)
class ArrayFiles(Memory):
    """Arrays in files: pickled as their paths, opened again where they are needed."""

    origin: dict[str, Any] = field(default_factory=dict[str, Any])
    image_shape: tuple[int, ...] | None = None

    def spec(self) -> dict[str, Any]:
        return self.origin

    def where(self, row: int) -> str:
        return f"{self.origin.get('path') or self.origin['files']['features']}, row {row}"

    def __reduce__(self) -> tuple[Callable[..., ArrayFiles], tuple[dict[str, Any]]]:
        return load, (self.origin,)


def load(origin: dict[str, Any]) -> ArrayFiles:
    """The arrays that a spec describes."""
    if origin["kind"] == "npz":
        found = {role: read_member(origin["path"], name) for role, name in origin["members"].items()}
    else:
        found = {role: read_npy(path) for role, path in origin["files"].items()}
    return ArrayFiles(arrays.table_of(**found), origin, arrays.image_shape(found["features"]))


def open_npz(path: str, names: Mapping[str, str | None]) -> ArrayFiles:
    """An NPZ; `names` gives the array of a role where it is not called as in `MEMBERS`."""
    present = member_names(path)
    members: dict[str, str] = {}
    for role, usual in MEMBERS.items():
        asked = names.get(role)
        found = [name for name in ([asked] if asked else usual) if name in present]
        if found:
            members[role] = found[0]
        elif asked or role in ("features", "labels"):
            called = " or ".join(repr(name) for name in ([asked] if asked else usual))
            raise SourceError(
                f"{path} has no {role}: no array is called {called}; it has {', '.join(present) or 'none'}"
            )
    return load({"kind": "npz", "path": os.path.abspath(path), "members": members})


def open_npy(files: Mapping[str, str]) -> ArrayFiles:
    """One NPY file a role."""
    return load({"kind": "npy", "files": {role: os.path.abspath(path) for role, path in files.items()}})


def member_names(path: str) -> list[str]:
    """The arrays of an NPZ."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except FileNotFoundError as error:
        raise SourceError(f"{path} does not exist; give the path of an NPZ file") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"{path} cannot be read as NPZ: {error}; write it with np.savez") from error


def read_npy(path: str) -> np.ndarray:
    """A memory map of an NPY file."""
    try:
        with open(path, "rb") as file:
            return _mapped(path, file, 0, path)
    except FileNotFoundError as error:
        raise SourceError(f"{path} does not exist; give the path of an NPY file") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_member(path: str, name: str) -> np.ndarray:
    """An array of an NPZ: a memory map where it is stored, loaded where it is compressed."""
    what = f"array {name!r} of {path}"
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(name if name in archive.namelist() else f"{name}.npy")
            if info.compress_type == zipfile.ZIP_STORED:
                with open(path, "rb") as file:
                    return _mapped(path, file, _data_offset(file, info), what)
            with archive.open(info) as member:
                return npy.read_array(member, allow_pickle=False)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _unreadable(what, error) from error


def _data_offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: after its local header (30 bytes), its name and its extra field."""
    file.seek(info.header_offset)
    name, extra = struct.unpack("<26x2H", file.read(30))
    return info.header_offset + 30 + name + extra


def _mapped(path: str, file: BinaryIO, offset: int, what: str) -> np.ndarray:
    file.seek(offset)
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise SourceError(f"{what} holds pickled Python objects, which are not loaded; save numbers or strings")
    if not np.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode="r", offset=file.tell(), shape=shape, order="F" if fortran else "C")


def _unreadable(what: str, error: Exception) -> SourceError:
    if isinstance(error, SourceError):
        return error
    pickled = "allow_pickle" in str(error) or "pickle" in str(error)
    why = "it holds pickled Python objects, which are not loaded; save numbers or strings" if pickled else f"{error}"
    return SourceError(f"{what} cannot be read as NPY: {why}")
