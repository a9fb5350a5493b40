"""The design matrix: from a sample's columns to the features `h` of the head (kept, centred, scaled, bias appended)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .errors import ShapeError


@dataclass(frozen=True)
class Design:
    """`h = [(x[kept] − mean) / scale, 1]`, float64 whatever the input, d = kept + 1 with a bias.

    Columns that never vary are not kept: beside an unpenalised bias their weight is zero, so leaving them out changes
    no score, and without a penalty they would make the curvature singular.
    """

    kept: Bool[Tensor, " columns"]
    mean: Float[Tensor, " kept"]
    scale: Float[Tensor, " kept"]
    bias: bool = True

    @classmethod
    def identity(cls, columns: int, *, bias: bool = True) -> Design:
        """All columns as they are."""
        kept = torch.ones(columns, dtype=torch.bool)
        zero = torch.zeros(columns, dtype=torch.float64)
        return cls(kept, zero, zero + 1, bias)

    @classmethod
    def from_moments(
        cls,
        mean: Float[Tensor, " columns"],
        scale: Float[Tensor, " columns"],
        constant: Bool[Tensor, " columns"],
        *,
        standardize: bool,
        bias: bool = True,
    ) -> Design:
        """From every column's weighted mean and (population) standard deviation; without a bias nothing is centred."""
        kept = ~constant if bias else torch.ones_like(constant)
        zero = torch.zeros(int(kept.sum()), dtype=torch.float64)
        centre = mean[kept].double() if standardize and bias else zero
        flat = constant | (scale == 0)  # a spread too small to be squared counts as none
        spread = torch.where(flat, torch.ones_like(scale), scale)[kept].double()
        return cls(kept, centre, spread if standardize else zero + 1, bias)

    @property
    def d(self) -> int:
        """Width of `h`, the bias counted."""
        return len(self.mean) + self.bias

    def penalised(self, *, penalize_bias: bool) -> Float[Tensor, " d"]:
        """The diagonal of D: 1, and 0 on the bias row unless asked."""
        D = torch.ones(self.d, dtype=torch.float64)
        if self.bias and not penalize_bias:
            D[-1] = 0.0
        return D

    def matrix(self, x: Tensor) -> Float[Tensor, "n d"]:
        """Rows `h` of the samples `x` `[n, columns]`; raises `ShapeError` where the number of columns is another."""
        if x.ndim != 2 or x.shape[1] != len(self.kept):
            raise ShapeError(f"features have shape {tuple(x.shape)}; the head was made for [n, {len(self.kept)}]")
        kept = x if bool(self.kept.all()) else x[:, self.kept]
        H = torch.empty(len(x), self.d, dtype=torch.float64)
        torch.sub(kept, self.mean, out=H[:, : len(self.mean)])
        H[:, : len(self.mean)] /= self.scale
        if self.bias:
            H[:, -1] = 1.0
        return H

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Names of the entries of `h`."""
        kept = tuple(name for name, keep in zip(columns, self.kept.tolist(), strict=True) if keep)
        return (*kept, "(bias)") if self.bias else kept

    def original_units(self, V: Float[Tensor, "*n K d"]) -> Float[Tensor, "*n K columns_and_bias"]:
        """Weights (or shifts of them) on `h` as weights on the original columns; dropped columns get 0."""
        k = len(self.mean)
        slopes = V[..., :k] / self.scale
        out = torch.zeros(*V.shape[:-1], len(self.kept) + self.bias, dtype=torch.float64)
        out[..., : len(self.kept)][..., self.kept] = slopes
        if self.bias:
            out[..., -1] = V[..., -1] - slopes @ self.mean
        return out
