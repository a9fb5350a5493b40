"""The head's curvature as one dense matrix, `A = N·H = Σ_i w_i S_i ⊗ h_i h_iᵀ + N λ2 (I_K ⊗ D)`.

Both passes over the data are one matrix product each on **packed second moments**. Let `q_i` be the d(d+1)/2 entries
of the upper triangle of `h_i h_iᵀ` and `s_i` the K(K+1)/2 entries of `S_i`:

    curvature   Σ_i w_i s_i q_iᵀ            [K(K+1)/2, d(d+1)/2]   every block of A at once
    leverage    h_iᵀ (A⁻¹)_{kl} h_i = b_{kl}·q_i                     every block of every M_i at once

That is n·P²/2 multiply-adds for the two together — a quarter of dense blocks — in plain GEMMs, so everything is
float64. The curvature `S` is formed first and never by the difference `blockdiag(Σ p_c hhᵀ) − GᵀG`, which cancels on
saturated heads. With few packed curvatures (K ≤ 4) building `q` costs more than it saves; plain products serve there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int64
from scipy.linalg import get_lapack_funcs
from torch import Tensor

from ..errors import ShapeError, SingularCurvatureError
from .subspace import Subspace

ROWS = 2048  # rows a product takes at a time
PACKED = 128  # entries of q built at a time, at least: a tile of q stays in the outer cache
FEW = 12  # packed curvatures below which q costs more than it saves


@lru_cache(maxsize=8)
def _triangle(d: int) -> Int64[Tensor, "2 m"]:
    return torch.triu_indices(d, d)


def packed_size(d: int) -> int:
    return d * (d + 1) // 2


def unpack(packed: Float[Tensor, "*n m"], K: int) -> Float[Tensor, "*n K K"]:
    """Packed upper triangles as full symmetric matrices."""
    k, j = _triangle(K)
    index = torch.empty(K, K, dtype=torch.int64)
    index[k, j] = index[j, k] = torch.arange(len(k))
    return packed[..., index]


def _packed_outer(HT: Float[Tensor, "d b"]) -> Iterator[tuple[slice, Float[Tensor, "c b"]]]:
    """`q` of b rows, some packed entries at a time: row j of the triangle is h_j · h_{j:}. The buffer is reused."""
    d, b = HT.shape
    buffer = HT.new_empty(min(PACKED + d, packed_size(d)), b)
    start = used = 0
    for j in range(d):
        torch.mul(HT[j:], HT[j], out=buffer[used : used + d - j])
        used += d - j
        if used >= PACKED or j == d - 1:
            yield slice(start, start + used), buffer[:used]
            start, used = start + used, 0


def second_moments(rows: Iterable[tuple[Float[Tensor, "n m"], Float[Tensor, "n d"]]]) -> Float[Tensor, "m q"]:
    """`Σ_i s_i q_iᵀ`: m weighted second-moment matrices, packed. O(n m d²/2) multiply-adds.

    `rows` gives at least one pair (s, H), each of about `ROWS` rows.
    """
    total = torch.empty(0)
    for weights, h in rows:
        m, d = weights.shape[1], h.shape[1]
        if not len(total):
            total = torch.zeros(m, packed_size(d), dtype=torch.float64)
        if m < FEW:
            a, b = _triangle(d)
            for k in range(m):
                total[k] += ((h * weights[:, k, None]).T @ h)[a, b]
            continue
        weights_t = weights.T.contiguous()
        for part, q in _packed_outer(h.T.contiguous()):
            total[:, part] += weights_t @ q.T
    return total


def _quadratic_forms(blocks: Float[Tensor, "m d d"], H: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
    """`h_iᵀ blocks_k h_i`, plainly."""
    out = torch.empty(len(H), len(blocks), dtype=torch.float64)
    for rows in range(0, len(H), ROWS):
        h = H[rows : rows + ROWS]
        for k, block in enumerate(blocks):
            out[rows : rows + ROWS, k] = torch.linalg.vecdot(h @ block, h)
    return out


def _packed_forms(blocks: Float[Tensor, "m q"], H: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
    """`b_k·q_i`: the same from packed blocks, one product for all k."""
    out = torch.empty(len(H), len(blocks), dtype=torch.float64)
    for rows in range(0, len(H), ROWS):
        h = H[rows : rows + ROWS].T.contiguous()
        forms = torch.zeros(len(blocks), h.shape[1], dtype=torch.float64)
        for part, q in _packed_outer(h):
            forms.addmm_(blocks[:, part], q)
        out[rows : rows + ROWS] = forms.T
    return out


def assemble(packed: Float[Tensor, "m q"], d: int, penalty: Float[Tensor, " d"]) -> Float[Tensor, "P P"]:
    """A from its packed blocks, `penalty = N λ2 diag(D)` added; m = K(K+1)/2 blocks of d × d."""
    K = int((8 * len(packed) + 1) ** 0.5 - 1) // 2
    A = torch.empty(K, d, K, d, dtype=torch.float64)
    a, b = _triangle(d)
    for (k, j), entries in zip(_triangle(K).T.tolist(), packed, strict=True):
        block = torch.empty(d, d, dtype=torch.float64)
        block[a, b] = block[b, a] = entries
        A[k, :, j, :] = A[j, :, k, :] = block
    A = A.reshape(K * d, K * d)
    A.diagonal().add_(penalty.repeat(K))
    return A


def dense_bytes(K: int, d: int) -> int:
    """A head of K × d parameters at its peak: A, its factor, its inverse, packed blocks, the rows in two threads."""
    blocks = packed_size(K) * packed_size(d)
    return 8 * (4 * (K * d) ** 2 + 6 * blocks + 2 * ROWS * 6 * K**2)


def refuse_too_large(K: int, d: int) -> None:
    """Raises `ShapeError` where that is more than the memory of this machine."""
    needed, there = dense_bytes(K, d) / 2**30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if needed > there:
        raise ShapeError(
            f"{K} outputs × {d} columns are {K * d:,} parameters, whose exact curvature takes {needed:,.0f} GiB; this "
            f"machine has {there:,.0f} GiB. Project the features to fewer columns (PCA), audit fewer classes at a "
            'time, or give one-hot targets to family="linear", which needs one block for all outputs'
        )


@dataclass(frozen=True)
class Curvature:
    """`A = N·H` of a head and its inverse. Parameters are laid out (K, d) row-major; P = K·d.

    `packed` are the blocks `Σ w S_kl hhᵀ`; `penalty = N λ2 diag(D)`; `total_weight = N`. With `shared` (the linear
    family, S = I) there is one block, and the same d × d inverse serves each of the `outputs` outputs. With `free` the
    parameters move in that subspace only (an elastic net's active set): A is inverted there and zero-padded.
    """

    packed: Float[Tensor, "m q"]
    penalty: Float[Tensor, " d"]
    total_weight: float
    outputs: int
    shared: bool = False
    names: tuple[str, ...] = ()
    free: Subspace | None = None

    @property
    def d(self) -> int:
        return len(self.penalty)

    @property
    def parameters(self) -> int:
        """P, all outputs counted; those that can move."""
        return self.outputs * self.d if self.free is None else self.free.dimensions

    @cached_property
    def matrix(self) -> Float[Tensor, "P P"]:
        """A itself (one output's d × d where `shared`)."""
        return assemble(self.packed, self.d, self.penalty)

    @cached_property
    def _moving(self) -> Float[Tensor, "Q Q"]:
        """A in the coordinates that can move."""
        return self.matrix if self.free is None else self.free.down(self.free.down(self.matrix).mT)

    @cached_property
    def _scale(self) -> Float[Tensor, " Q"]:
        return self._moving.diagonal().clamp(min=torch.finfo(torch.float64).tiny).rsqrt()

    @property
    def _blocks(self) -> int:
        """How many d × d blocks stand on A's diagonal."""
        return len(self.matrix) // self.d

    @cached_property
    def factor(self) -> Float[Tensor, "Q Q"]:
        """Lower Cholesky factor of `D A D`, `D = diag(A)^−½`: a unit diagonal, so scale alone is never singular.

        Raises `SingularCurvatureError` with the rank and the columns where A has no inverse to working precision.
        """
        scaled = self._scale[:, None] * self._moving * self._scale
        factor, info = torch.linalg.cholesky_ex(scaled)
        if int(info) or _rcond(scaled, factor) < len(scaled) * torch.finfo(torch.float64).eps:
            raise self._singular(scaled)
        return factor

    @cached_property
    def condition_number(self) -> float:
        """1-norm condition number of the unit-diagonal A (LAPACK's estimate)."""
        scaled = self._scale[:, None] * self._moving * self._scale
        return float(f"{1.0 / _rcond(scaled, self.factor):.10g}")  # further digits hang on where LAPACK's arrays lie

    @cached_property
    def inverse(self) -> Float[Tensor, "P P"]:
        inverse = self._scale[:, None] * torch.cholesky_inverse(self.factor) * self._scale
        return inverse if self.free is None else self.free.up(self.free.up(inverse).mT)

    def solve(self, G: Float[Tensor, "n K d"]) -> Float[Tensor, "n K d"]:
        """`A⁻¹ G` for each of n right-hand sides."""
        rows = G.reshape(-1, len(self.matrix))
        moving = rows if self.free is None else self.free.down(rows)
        solved = torch.cholesky_solve((moving * self._scale).T, self.factor).T * self._scale
        return (solved if self.free is None else self.free.up(solved)).reshape(G.shape)

    @cached_property
    def _forms(self) -> Tensor:
        """The blocks of A⁻¹ as the quadratic forms need them: symmetrised, and packed where that is cheaper."""
        d, K = self.d, self._blocks
        blocks = self.inverse.view(K, d, K, d)
        pairs = _triangle(K).T.tolist()
        if len(pairs) < FEW:
            return torch.stack([blocks[i, :, j, :] for i, j in pairs])
        a, b = _triangle(d)
        packed = torch.empty(len(pairs), len(a), dtype=torch.float64)
        for row, (i, j) in enumerate(pairs):
            packed[row] = blocks[i, :, j, :][a, b] + blocks[i, :, j, :][b, a] * (a != b)
        return packed

    def prepare(self) -> None:
        """Factorises now, with every core, what the threads that ask for `blocks` would otherwise race to compute."""
        _ = self._forms

    def blocks(self, H: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """Leverage blocks `M_i = (I_K ⊗ h_i)ᵀ A⁻¹ (I_K ⊗ h_i)`, packed; one column `hᵀA⁻¹h` where `shared`."""
        return _quadratic_forms(self._forms, H) if self._forms.ndim == 3 else _packed_forms(self._forms, H)

    @cached_property
    def effective_parameters(self) -> float:
        """`tr(A⁻¹ Σ w S ⊗ hhᵀ) = P − N λ2 tr(A⁻¹ (I ⊗ D))`, which is the sum of all leverages."""
        repeats = self.outputs // self._blocks
        penalty = self.penalty.repeat(self._blocks)
        return self.parameters - repeats * float(self.inverse.diagonal() @ penalty)

    def mean_block(self, second_moment: Float[Tensor, "d d"]) -> Float[Tensor, "K K"]:
        """Mean over the rows of `M_i`, from their mean of `hhᵀ`, without a pass over them; 1 × 1 where `shared`."""
        d, K = self.d, self._blocks
        return torch.einsum("kalb,ab->kl", self.inverse.view(K, d, K, d), second_moment)

    def _singular(self, scaled: Float[Tensor, "P P"]) -> SingularCurvatureError:
        values, vectors = torch.linalg.eigh(scaled)
        null = values <= len(scaled) * torch.finfo(torch.float64).eps * values[-1].abs()
        null[0] = True
        directions = vectors[:, null].T if self.free is None else self.free.up(vectors[:, null].T)
        share = directions.square().sum(0).view(-1, self.d).sum(0)
        involved = (share > 0.1 * share.max()).nonzero()[:, 0].tolist()
        names = [self.names[i] if self.names else f"column {i}" for i in involved]
        rank = int((~null).sum())
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return SingularCurvatureError(
            f"the curvature is singular: rank {rank} of {len(scaled)}; the columns that depend on each other are "
            f'{shown}. Give l2 > 0 (or l2="auto"), drop some of these columns, or add rows',
            rank=rank,
            size=len(scaled),
            columns=tuple(names),
        )


def _rcond(matrix: Float[Tensor, "P P"], factor: Float[Tensor, "P P"]) -> float:
    """Reciprocal 1-norm condition number by LAPACK's estimate, from the Cholesky factor; 1 where nothing can move."""
    if not len(matrix):
        return 1.0
    pocon: Any = get_lapack_funcs("pocon", dtype="float64")
    rcond, _ = pocon(factor.numpy(), float(matrix.abs().sum(0).max()), uplo="L")
    return float(rcond)
