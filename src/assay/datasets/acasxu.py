"""The published ACAS Xu networks: nine for one previous advisory, each a surrogate of its part of the real table.

Networks of Julian et al. (2016) as released with Reluplex (Katz et al. 2017); their files are the user's to get.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError, SourceError
from .hcas import ADVISORIES

INPUTS = ("rho", "theta", "psi", "v_own", "v_int")
TAUS = (0, 1, 5, 10, 20, 40, 60, 80, 100)
NPZ = {
    "in_min": (5,), "in_max": (5,), "in_mean": (5,), "in_range": (5,), "out_mean": (), "out_range": (),
    "tau_s": (9,), "a_prev": (9,),
}  # fmt: skip
"""Arrays of the NPZ beside the layers, and their shapes."""
TEXT = {"minima": 5, "maxima": 5, "means": 6, "ranges": 6}
"""Numbers in the four lines of a `.nnet` file that say how it is normalised; the sixth is of the scores."""


@dataclass(frozen=True)
class Layers:
    """One network: `weights[k]` `[out, in]` and `biases[k]` `[out]`, ReLU between them."""

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    def __post_init__(self) -> None:
        width = len(INPUTS)
        for k, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = W.shape[0] if W.ndim == 2 and k + 1 < len(self.weights) else len(ADVISORIES)
            if W.shape != (out, width) or b.shape != (out,):
                raise SourceError(
                    f"W{k} has shape {W.shape} and b{k} {b.shape}, where {width} values come in; they make no network "
                    "from 5 inputs to 5 scores"
                )
            for name, values in ((f"W{k}", W), (f"b{k}", b)):
                if not np.isfinite(values).all():
                    raise SourceError(f"{name} has values that are not finite; get the networks anew")
            width = out
        if not self.weights:
            raise SourceError("no layers make no network from 5 inputs to 5 scores")

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ W.T + b, 0)
        return x @ self.weights[-1].T + self.biases[-1]


@dataclass(frozen=True)
class AcasNetworks:
    """Networks by τ [s] for one `previous` advisory, with the normalisation they share."""

    layers: dict[int, Layers]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    range: NDArray[np.float64]
    out_mean: float
    out_range: float
    previous: str = "COC"

    def __post_init__(self) -> None:
        for name in ("low", "high", "mean", "range", "out_mean", "out_range"):
            values = np.asarray(getattr(self, name))
            if values.shape != (() if name.startswith("out_") else (len(INPUTS),)):
                raise SourceError(f"the inputs' {name} has shape {values.shape}; it is one value for each of 5 inputs")
            if not np.isfinite(values).all() or (name in ("range", "out_range") and (values <= 0).any()):
                raise SourceError(f"{name} = {values.tolist()}; all are finite and the ranges larger than zero")
        if (self.low > self.high).any():
            raise SourceError(f"low = {self.low.tolist()} is not below high = {self.high.tolist()}")
        if self.previous not in ADVISORIES:
            raise SourceError(f"previous={self.previous!r} is none of {', '.join(ADVISORIES)}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all weights and of the normalisation."""
        digest = hashlib.sha256(repr((self.previous, self.out_mean, self.out_range, list(self.layers))).encode())
        for values in (self.low, self.high, self.mean, self.range):
            digest.update(np.asarray(values, dtype=np.float64).tobytes())
        for layers in self.layers.values():
            for values in (*layers.weights, *layers.biases):
                digest.update(f"{values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def scores(self, states: ArrayLike, tau: int) -> NDArray[np.float64]:
        """Costs `[n, 5]` of COC, WL, WR, SL, SR at states `[n, 5]` (ρ ft, θ rad, ψ rad, v_own ft/s, v_int ft/s).

        Inputs are clipped to the networks' range. Raises `ShapeError` for a τ without a network, other columns, or a
        value that is not finite.
        """
        x = np.asarray(states, dtype=np.float64)
        if tau not in self.layers:
            raise ShapeError(f"tau={tau} s has no network; there is one for each of {', '.join(map(str, self.layers))}")
        if x.ndim != 2 or x.shape[1] != len(INPUTS):
            raise ShapeError(f"states have shape {x.shape}; give [n, 5]: {', '.join(INPUTS)}")
        if len(bad := np.argwhere(~np.isfinite(x))):
            row, column = bad[0].tolist()
            raise ShapeError(f"states[{row}] has {INPUTS[column]} = {x[row, column]}; give finite values")
        normal = (np.clip(x, self.low, self.high) - self.mean) / self.range
        return self.layers[tau](normal.astype(np.float32)).astype(np.float64) * self.out_range + self.out_mean

    def advisory(self, states: ArrayLike, tau: int) -> NDArray[np.int64]:
        """The code of the least cost."""
        return self.scores(states, tau).argmin(1)


def read_networks(path: str | Path) -> AcasNetworks:
    """The networks of an NPZ, or of a folder that holds one, or the `.nnet` files of one previous advisory.

    Raises `SourceError` where a file is missing, damaged or of another shape, or one of the nine is not there.
    """
    place = Path(path)
    if place.is_dir():
        archives, texts = sorted(place.glob("*.npz")), sorted(place.glob("*.nnet"))
        if len(archives) == 1:
            return _from_npz(archives[0])
        if texts:
            return _from_text(texts)
        raise SourceError(f"{path} holds {len(archives)} .npz and no .nnet files; give the networks' NPZ")
    if not place.is_file():
        raise SourceError(f"there is no file {path}; give the networks' NPZ or the folder of their .nnet files")
    return _from_npz(place) if place.suffix == ".npz" else _from_text([place])


@contextmanager
def _named(path: Path) -> Generator[None]:
    """What is refused inside says in which file."""
    try:
        yield
    except SourceError as cause:
        raise SourceError(f"{path}: {cause}") from cause


def _from_npz(path: Path) -> AcasNetworks:
    arrays = _arrays(path)
    depth = max(1, sum(re.fullmatch(r"W\d+", name) is not None for name in arrays))
    shapes = NPZ | {f"{kind}{k}": (9, *(None,) * n) for k in range(depth) for kind, n in (("W", 2), ("b", 1))}
    for name, shape in shapes.items():
        if name not in arrays:
            raise SourceError(f"{path} has no array {name!r}; it is not the networks' NPZ")
        found = arrays[name].shape
        if len(found) != len(shape) or any(wanted not in (None, n) for n, wanted in zip(found, shape, strict=True)):
            told = str(shape).replace("None", "any")
            raise SourceError(f"{path}: {name} has shape {found}, expected {told}; there must be nine networks")
    if (taus := arrays["tau_s"].tolist()) != list(TAUS):
        raise SourceError(f"{path}: tau_s is {taus}; there must be nine networks, for {list(TAUS)} s")
    with _named(path):
        previous = _advisory(arrays["a_prev"].tolist())
        layers = {
            tau: Layers(*(tuple(_single(arrays[f"{kind}{k}"][j]) for k in range(depth)) for kind in "Wb"))
            for j, tau in enumerate(TAUS)
        }
        low, high, mean, spread = (arrays[f"in_{name}"] for name in ("min", "max", "mean", "range"))
        scale = float(arrays["out_mean"]), float(arrays["out_range"])
        return AcasNetworks(layers, low, high, mean, spread, *scale, previous)


def _arrays(path: Path) -> dict[str, NDArray[np.float64]]:
    """All arrays but texts."""
    name = "the archive"
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays: dict[str, NDArray[np.float64]] = {}
            for name in file.files:
                values = file[name]
                if values.dtype.kind in "biuf":
                    arrays[name] = values.astype(np.float64)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as cause:
        raise SourceError(f"{path} cannot be read, {name} is damaged: {cause}; get the file anew") from cause
    return arrays


def _single(values: Any) -> NDArray[np.float32]:
    """In float32, where what is too large is infinite, and so refused."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float64).astype(np.float32)


def _advisory(numbers: Sequence[int | float]) -> str:
    """The one previous advisory of all networks; the files count from 1."""
    if len(set(numbers)) != 1 or numbers[0] not in range(1, len(ADVISORIES) + 1):
        raise SourceError(
            f"the networks are for the previous advisories {', '.join(f'{a:g}' for a in sorted(set(numbers)))}; give "
            f"those of one, 1 to 5 ({', '.join(ADVISORIES)})"
        )
    return ADVISORIES[int(numbers[0]) - 1]


def _from_text(paths: Sequence[Path]) -> AcasNetworks:
    """Files named `…_a_t….nnet`, a the previous advisory and t the place of τ, both from 1."""
    folder = paths[0].parent
    places = {path: _place(path) for path in paths}
    with _named(folder):
        previous = _advisory([a for a, _ in places.values()])
    found: dict[int, tuple[Layers, list[list[float]]]] = {}
    for path, (_, place) in places.items():
        if place in found:
            raise SourceError(f"{path} is a second network for τ = {TAUS[place]} s; keep one of them")
        found[place] = _read_text(path)
    if missing := [tau for place, tau in enumerate(TAUS) if place not in found]:
        raise SourceError(f"{folder} has no network for τ = {missing[0]} s; all nine are needed")
    normalisations = [normalisation for _, normalisation in found.values()]
    if any(other != normalisations[0] for other in normalisations):
        raise SourceError(f"the networks in {folder} differ in their normalisation")
    low, high, mean, spread = (np.array(values) for values in normalisations[0])
    layers = {TAUS[place]: found[place][0] for place in sorted(found)}
    with _named(paths[0]):
        return AcasNetworks(layers, low, high, mean[:5], spread[:5], float(mean[5]), float(spread[5]), previous)


def _place(path: Path) -> tuple[int, int]:
    """The previous advisory, from 1, and the place of τ, from 0."""
    numbers = [int(part) for part in path.stem.replace("-", "_").split("_") if part.isdecimal()]
    if len(numbers) < 2 or not 1 <= numbers[1] <= len(TAUS):
        raise SourceError(f"{path} does not say which τ it is for; name it like ACASXU_run2a_1_4_batch_2000.nnet")
    return numbers[0], numbers[1] - 1


def _read_text(path: Path) -> tuple[Layers, list[list[float]]]:
    """A `.nnet` file: comments, sizes, a flag, minima, maxima, means, ranges, then each layer's rows and biases."""
    try:
        text = path.read_text(encoding="ascii")
        lines = [line for line in text.splitlines() if line and not line.startswith("//")]
        rows = [[float(value) for value in line.split(",") if value.strip()] for line in lines]
        sizes = [int(size) for size in rows[1]]
        for row, (name, count) in zip(rows[3:7], TEXT.items(), strict=True):
            if len(row) != count:
                raise ValueError(f"there are {len(row)} {name}, expected {count}")
        weights, biases, at = [], [], 7
        for before, after in itertools.pairwise(sizes):
            weights.append(_single(rows[at : at + after]).reshape(after, before))
            biases.append(_single(rows[at + after : at + 2 * after]).reshape(after))
            at += 2 * after
    except (OSError, UnicodeDecodeError, ValueError, IndexError, OverflowError) as cause:
        raise SourceError(f"{path} cannot be read as a .nnet file: {cause}") from cause
    with _named(path):
        return Layers(tuple(weights), tuple(biases)), rows[3:7]
