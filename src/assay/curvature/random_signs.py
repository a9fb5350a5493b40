"""Random signs that belong to a sample and not to the batch it came in, so that no batch size changes a result."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def signs(first: int, rows: int, columns: int, seed: int, like: Tensor) -> Float[Tensor, "b R"]:
    """±1 for each sample first, first + 1, … and column: a hash of position, column and seed (splitmix64)."""
    position = torch.arange(first, first + rows, device=like.device)[:, None]
    x = position * 1_000_003 + torch.arange(columns, device=like.device) + seed * 7_919_000_017
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x = (x ^ (x >> shift)) * factor
    return 1.0 - 2.0 * ((x ^ (x >> 31)) & 1).to(like.dtype)


def combined(roots: Float[Tensor, "b R C"], first: int, seed: int) -> Float[Tensor, "b C"]:
    """`Σ_r ε_r root_r`: one random direction a sample, whose outer product is S on average."""
    epsilon = signs(first, len(roots), roots.shape[1], seed, roots)
    return torch.einsum("br,brc->bc", epsilon, roots)
