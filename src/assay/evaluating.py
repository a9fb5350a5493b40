"""A model while it is asked something: in `eval()`, left as it was found, and differentiable more than once."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn
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
