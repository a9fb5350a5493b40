"""A model while it is asked something: in `eval()`, left as it was found, differentiable more than once; and which."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def as_found(model: nn.Module) -> Generator[None]:
    """In `eval()`, every module's own flag put back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def differentiable(model: nn.Module) -> Generator[None]:
    """`as_found`, and attention by plain products: its fused kernels have no second derivative.

    No graph is recorded outside the transforms of `torch.func`.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with as_found(model), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of its weights and buffers: names, types, shapes and values, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(tensor_bytes(value))
    return digest.hexdigest()


def tensor_bytes(value: Tensor) -> bytes:
    """The numbers of a tensor as they lie in memory, whatever their type."""
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
