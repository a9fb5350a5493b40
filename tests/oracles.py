"""The brute-force truths: dense, float64, three lines nobody can doubt."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def class_weights(head) -> Tensor:
    """The head's weights in all class columns, `[C, d]`."""
    return head.family.expand(head.V.T).T


def losses(name: str, W: Tensor, H: Tensor, y: Tensor) -> Tensor:
    z = H @ W.T
    if name == "softmax":
        return functional.cross_entropy(z, y, reduction="none")
    if name == "logistic":
        return functional.binary_cross_entropy_with_logits(z[:, 0], y.double(), reduction="none")
    return (z - y).square().sum(1) / 2


def objective(name: str, W: Tensor, H: Tensor, y: Tensor, w: Tensor, penalty: Tensor, N: float) -> Tensor:
    """`(1/N) Σ w ℓ + (1/2N) ‖√penalty W‖²`, penalty = N λ2 diag(D)."""
    return (w @ losses(name, W, H, y) + (penalty * W.square()).sum() / 2) / N


def hessian(name: str, W: Tensor, H: Tensor, y: Tensor, w: Tensor, penalty: Tensor, N: float) -> Tensor:
    def flat(v: Tensor) -> Tensor:
        return objective(name, v.view_as(W), H, y, w, penalty, N)

    return torch.autograd.functional.hessian(flat, W.flatten())


def gradients(name: str, W: Tensor, H: Tensor, y: Tensor) -> Tensor:
    def one(v: Tensor, h: Tensor, label: Tensor) -> Tensor:
        return losses(name, v.view_as(W), h[None], label[None])[0]

    return torch.stack([torch.func.grad(one)(W.flatten(), h, label) for h, label in zip(H, y, strict=True)])


def cooks_distance(name: str, W: Tensor, H: Tensor, y: Tensor, w: Tensor, penalty: Tensor, N: float) -> Tensor:
    """`gᵀ H⁺ g` with the pseudo-inverse: in class columns a softmax is singular by d directions."""
    g = gradients(name, W, H, y)
    return torch.einsum("np,pq,nq->n", g, torch.linalg.pinv(hessian(name, W, H, y, w, penalty, N), hermitian=True), g)


def blobs(n: int, d: int, classes: int, seed: int = 0, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping Gaussian classes, every class present."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    X = rng.normal(size=(classes, d))[y] + spread * rng.normal(size=(n, d))
    return X, y


def regression(n: int, d: int, outputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, X @ rng.normal(size=(d, outputs)) + 0.3 * rng.normal(size=(n, outputs))
