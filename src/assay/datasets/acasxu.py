"""The published ACAS Xu networks: nine for one previous advisory, each a surrogate of its part of the real table.

Networks of Julian et al. (2016) as released with Reluplex (Katz et al. 2017); their files are the user's to get.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError, SourceError

INPUTS = ("rho", "theta", "psi", "v_own", "v_int")
TAUS = (0, 1, 5, 10, 20, 40, 60, 80, 100)
NPZ = ("in_min", "in_max", "in_mean", "in_range", "out_mean", "out_range", "tau_s")


@dataclass(frozen=True)
class Layers:
    """One network: `weights[k]` `[out, in]` and `biases[k]` `[out]`, ReLU between them."""

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    def __post_init__(self) -> None:
        shapes = [W.shape for W in self.weights]
        chained = all(a[0] == b[1] for a, b in itertools.pairwise(shapes))
        fitting = all(W.shape[0] == b.shape[0] for W, b in zip(self.weights, self.biases, strict=True))
        if shapes[0][1] != len(INPUTS) or shapes[-1][0] != 5 or not chained or not fitting:
            raise SourceError(f"layers of shapes {shapes} make no network from 5 inputs to 5 scores")

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ W.T + b, 0)
        return x @ self.weights[-1].T + self.biases[-1]


@dataclass(frozen=True)
class AcasNetworks:
    """Networks by τ [s], with the normalisation they share."""

    layers: dict[int, Layers]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    range: NDArray[np.float64]
    out_mean: float
    out_range: float

    def scores(self, states: ArrayLike, tau: int) -> NDArray[np.float64]:
        """Costs `[n, 5]` of COC, WL, WR, SL, SR at states `[n, 5]` (ρ ft, θ rad, ψ rad, v_own ft/s, v_int ft/s).

        Inputs are clipped to the networks' range. Raises `ShapeError` for a τ without a network, or other columns.
        """
        x = np.asarray(states, dtype=np.float64)
        if tau not in self.layers:
            raise ShapeError(f"tau={tau} s has no network; there is one for each of {', '.join(map(str, self.layers))}")
        if x.ndim != 2 or x.shape[1] != len(INPUTS):
            raise ShapeError(f"states have shape {x.shape}; give [n, 5]: {', '.join(INPUTS)}")
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


def _from_npz(path: Path) -> AcasNetworks:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as cause:
        raise SourceError(f"{path} cannot be read: {cause}") from cause
    depth = sum(name[0] == "W" for name in arrays)
    wanted = [*NPZ, *(f"{kind}{k}" for kind in "Wb" for k in range(max(depth, 1)))]
    if missing := [name for name in wanted if name not in arrays]:
        raise SourceError(f"{path} has no array {missing[0]!r}; it is not the networks' NPZ")
    taus = [int(tau) for tau in arrays["tau_s"]]
    if any(len(arrays[f"W{k}"]) != len(taus) for k in range(depth)) or tuple(taus) != TAUS:
        raise SourceError(f"{path} holds networks for τ = {taus}; there must be nine, for {list(TAUS)} s")
    layers = {
        tau: Layers(*(tuple(arrays[f"{kind}{k}"][j] for k in range(depth)) for kind in "Wb"))
        for j, tau in enumerate(taus)
    }
    own = {name: arrays[f"in_{name}"] for name in ("min", "max", "mean", "range")}
    return AcasNetworks(
        layers, own["min"], own["max"], own["mean"], own["range"], float(arrays["out_mean"]), float(arrays["out_range"])
    )


def _from_text(paths: Sequence[Path]) -> AcasNetworks:
    """Files named `…_a_t….nnet`, a the previous advisory and t the place of τ, from 1."""
    found: dict[int, tuple[Layers, list[list[float]]]] = {}
    for path in paths:
        place = _place(path)
        if place in found:
            raise SourceError(
                f"{path} is a second network for τ = {TAUS[place]} s; give those of one previous advisory"
            )
        found[place] = _read_text(path)
    if missing := [tau for place, tau in enumerate(TAUS) if place not in found]:
        raise SourceError(f"{paths[0].parent} has no network for τ = {missing[0]} s; all nine are needed")
    normalisations = [normalisation for _, normalisation in found.values()]
    if any(other != normalisations[0] for other in normalisations):
        raise SourceError(f"the networks in {paths[0].parent} differ in their normalisation")
    low, high, mean, spread = (np.array(values) for values in normalisations[0])
    layers = {TAUS[place]: found[place][0] for place in sorted(found)}
    return AcasNetworks(layers, low, high, mean[:5], spread[:5], float(mean[5]), float(spread[5]))


def _place(path: Path) -> int:
    numbers = [part for part in path.stem.replace("-", "_").split("_") if part.isdigit()]
    if len(numbers) < 2 or not 1 <= int(numbers[1]) <= len(TAUS):
        raise SourceError(f"{path} does not say which τ it is for; name it like ACASXU_run2a_1_4_batch_2000.nnet")
    return int(numbers[1]) - 1


def _read_text(path: Path) -> tuple[Layers, list[list[float]]]:
    """A `.nnet` file: comments, sizes, a flag, minima, maxima, means, ranges, then each layer's rows and biases."""
    try:
        text = path.read_text(encoding="ascii")
        lines = [line for line in text.splitlines() if line and not line.startswith("//")]
        rows = [[float(value) for value in line.split(",") if value.strip()] for line in lines]
        sizes = [int(size) for size in rows[1]]
        low, high, mean, spread = rows[3:7]
        weights, biases, at = [], [], 7
        for before, after in itertools.pairwise(sizes):
            weights.append(np.array(rows[at : at + after], dtype=np.float32).reshape(after, before))
            biases.append(np.array(rows[at + after : at + 2 * after], dtype=np.float32).reshape(after))
            at += 2 * after
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as cause:
        raise SourceError(f"{path} cannot be read as a .nnet file: {cause}") from cause
    return Layers(tuple(weights), tuple(biases)), [low, high, mean, spread]
