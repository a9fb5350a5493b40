"""Linear and convolutional layers as outer products: a sample's gradient is `Σ_t g_t a_tᵀ`.

`a_t` is what came into the layer at place t (a 1 behind it where a bias is chosen), `g_t` the derivative in what went
out. A convolution's places are its output pixels, its inputs the patches there. Of a normalisation `γ ∘ x̂ + β` the
gradient is `(Σ_t g_t ∘ x̂_t, Σ_t g_t)`, one row of a few numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ShapeError
from .objective import NetworkObjective
from .output_loss import OnModel
from .parameters import Parameters, some
from .reading import Batch


@dataclass(frozen=True)
class Layer:
    """A module whose `weight` and `bias` (those that are chosen, by name) form one matrix, out × columns.

    `factored`: its gradient is a sum of outer products `g aᵀ`.
    """

    name: str
    module: Any
    weight: str | None
    bias: str | None
    factored: ClassVar[bool] = True

    @property
    def out(self) -> int:
        return len(self.module.weight)

    @property
    def columns(self) -> int:
        return (self.module.weight[0].numel() if self.weight else 0) + (1 if self.bias else 0)

    def inputs(self, given: Tensor, b: int) -> Float[Tensor, "b T columns"]:
        """a of each place; samples may be folded, each behind the other, into the first axis."""
        if isinstance(self.module, nn.Conv2d):
            m: Any = self.module
            given = functional.unfold(given, m.kernel_size, m.dilation, m.padding, m.stride).mT
        a = given.reshape(b, -1, given.shape[-1])
        one = a.new_ones(*a.shape[:2], 1)
        return torch.cat([*([a] if self.weight else []), *([one] if self.bias else [])], -1)

    def outputs(self, gradient: Tensor, b: int) -> Float[Tensor, "b T out"]:
        """g of each place, from the derivative in the module's output."""
        if isinstance(self.module, nn.Conv2d):
            gradient = gradient.flatten(2).mT
        return gradient.reshape(b, -1, gradient.shape[-1])

    def gradients(self, g: Float[Tensor, "b T _"], a: Float[Tensor, "b T _"]) -> Float[Tensor, "b _ _"]:
        """`Σ_t g aᵀ` of each sample."""
        return g.mT @ a

    def matrix(self, parts: dict[str, Tensor]) -> Float[Tensor, "m out columns"]:
        """The layer's part of parameter-shaped vectors as matrices."""
        weight = [parts[self.weight].flatten(2)] if self.weight else []
        bias = [parts[self.bias][..., None]] if self.bias else []
        return torch.cat([*weight, *bias], -1)

    def parts(self, matrix: Float[Tensor, "m out columns"]) -> dict[str, Tensor]:
        """And back."""
        found: dict[str, Tensor] = {}
        if self.weight:
            width = self.columns - (1 if self.bias else 0)
            found[self.weight] = matrix[..., :width].reshape(len(matrix), *self.module.weight.shape)
        if self.bias:
            found[self.bias] = matrix[..., -1]
        return found


@dataclass(frozen=True)
class Norm(Layer):
    """`γ ∘ x̂ + β`, x̂ normalised in eval mode: its γ and β are one row, 1 × columns, and no outer products."""

    factored: ClassVar[bool] = False

    @property
    def out(self) -> int:
        return 1

    @property
    def columns(self) -> int:
        return self.module.weight.numel() * ((self.weight is not None) + (self.bias is not None))

    def inputs(self, given: Tensor, b: int) -> Float[Tensor, "b T _"]:
        """x̂ of each place."""
        m = self.module
        if isinstance(m, nn.LayerNorm):
            return functional.layer_norm(given, m.normalized_shape, None, None, m.eps).reshape(b, -1, m.weight.numel())
        if isinstance(m, nn.GroupNorm):
            return self._channels_last(functional.group_norm(given, m.num_groups, None, None, m.eps), b)
        return self._channels_last(functional.batch_norm(given, m.running_mean, m.running_var, eps=m.eps), b)

    def outputs(self, gradient: Tensor, b: int) -> Float[Tensor, "b T _"]:
        if isinstance(self.module, nn.LayerNorm):
            return gradient.reshape(b, -1, self.module.weight.numel())
        return self._channels_last(gradient, b)

    def _channels_last(self, x: Tensor, b: int) -> Float[Tensor, "b T _"]:
        return x.reshape(*x.shape[:2], -1).mT.reshape(b, -1, x.shape[1])

    def gradients(self, g: Float[Tensor, "b T _"], a: Float[Tensor, "b T _"]) -> Float[Tensor, "b 1 columns"]:
        parts = [*([(g * a).sum(1)] if self.weight else []), *([g.sum(1)] if self.bias else [])]
        return torch.cat(parts, 1)[:, None]

    def matrix(self, parts: dict[str, Tensor]) -> Float[Tensor, "m 1 columns"]:
        return torch.cat([parts[name].flatten(1) for name in (self.weight, self.bias) if name], 1)[:, None]

    def parts(self, matrix: Float[Tensor, "m 1 columns"]) -> dict[str, Tensor]:
        names = [name for name in (self.weight, self.bias) if name]
        split = matrix[:, 0].chunk(len(names), 1)
        return {name: part.reshape(-1, *self.module.weight.shape) for name, part in zip(names, split, strict=True)}


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)


def layers_of(model: nn.Module, parameters: Parameters) -> tuple[Layer, ...]:
    """The layers that the chosen parameters form.

    Raises `ShapeError` naming parameters of other kinds of modules, grouped convolutions and tied weights.
    """
    wanted = set(parameters.names)
    every = list(model.named_parameters(remove_duplicate=False))
    tied = [name for name, p in every if name in wanted and sum(p is other for _, other in every) > 1]
    if tied:
        raise ShapeError(f"{some(tied)} are tied to other layers, which KFAC and EKFAC do not take; use CG()")
    found: list[Layer] = []
    for name, module in model.named_modules():
        if _plain(module):
            mine = [f"{name}.{which}" if name else which for which in ("weight", "bias")]
            weight, bias = (each if each in wanted else None for each in mine)
            if weight or bias:
                kind = Norm if isinstance(module, NORMS) else Layer
                found.append(kind(name, module, weight, bias))
                wanted -= {weight, bias}
    if wanted:
        left = [name for name in parameters.names if name in wanted]
        raise ShapeError(
            f"KFAC and EKFAC take nn.Linear, nn.Conv2d (no groups, zero padding) and normalisations, and {some(left)} "
            "are of other modules; leave them out with params=[nn.Linear, nn.Conv2d], or use CG() or Arnoldi()"
        )
    return tuple(found)


def _plain(module: nn.Module) -> bool:
    if isinstance(module, (nn.Linear, *NORMS)):
        return True
    if not isinstance(module, nn.Conv2d):
        return False
    return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)


@dataclass(frozen=True)
class Recorded:
    """One batch through the model: what came into each layer, and the graph to what went out; z are the outputs."""

    objective: NetworkObjective
    layers: tuple[Layer, ...]
    batch: Batch
    z: Tensor
    given: tuple[list[Tensor], ...]
    gone: tuple[list[Tensor], ...]

    def inputs(self, layer: int) -> Float[Tensor, "b T columns"]:
        """a of every call of the layer."""
        made = [self.layers[layer].inputs(given, len(self.batch)) for given in self.given[layer]]
        return made[0] if len(made) == 1 else torch.cat(made, 1)

    def backward(self, value: Tensor) -> list[Float[Tensor, "b _ _"]]:
        """g of every layer: the derivatives of a sum over samples, each of which depends on its own outputs only."""
        flat = [output for outputs in self.gone for output in outputs]
        found = iter(torch.autograd.grad(value, flat, retain_graph=True))
        shaped = [[layer.outputs(next(found), len(self.batch)) for _ in outputs]
                  for layer, outputs in zip(self.layers, self.gone, strict=True)]  # fmt: skip
        return [made[0] if len(made) == 1 else torch.cat(made, 1) for made in shaped]

    def of_losses(self) -> list[Float[Tensor, "b _ _"]]:
        """g of every layer under the losses themselves."""
        loss = self.objective.loss
        assert not isinstance(loss, OnModel)
        with torch.enable_grad():
            losses = loss.function(self.z, self.batch.targets)
            total = losses.sum()
        self.objective.refuse_nonfinite(self.batch, losses.detach())
        return self.backward(total)

    def gradients(self) -> dict[str, Tensor]:
        """Of the loss of every sample, by parameter, samples first."""
        found: dict[str, Tensor] = {}
        for k, g in enumerate(self.of_losses()):
            found |= self.layers[k].parts(self.layers[k].gradients(g, self.inputs(k)))
        return found

    def of_outputs(self, direction: Float[Tensor, "b C"]) -> list[Float[Tensor, "b _ _"]]:
        """g of every layer under `uᵀz`."""
        with torch.enable_grad():
            total = (self.z.reshape(len(self.z), -1) * direction).sum()
        return self.backward(total)


def recorded(objective: NetworkObjective, layers: tuple[Layer, ...], batch: Batch) -> Recorded:
    """Runs a batch and watches the layers; raises `ShapeError` for one that the model does not call."""
    given: tuple[list[Tensor], ...] = tuple([] for _ in layers)
    gone: tuple[list[Tensor], ...] = tuple([] for _ in layers)
    theta = {name: p.clone().requires_grad_() for name, p in objective.theta.items()}
    with torch.enable_grad(), _watching(layers, given, gone):
        z = objective.outputs(theta, batch.inputs)
    if missing := [layer.name for layer, outputs in zip(layers, gone, strict=True) if not outputs]:
        raise ShapeError(f"the model never calls {some(missing)}; leave them out of params=")
    return Recorded(objective, layers, batch, z, given, gone)


def check_layers(objective: NetworkObjective, layers: tuple[Layer, ...]) -> None:
    """Compares the gradients of two samples with those of each alone; raises `ShapeError` naming what differs.

    A weight that is also used outside of its module, a module with a `forward` of its own, or samples that are not on
    the first axis of what a layer is given: nothing else would tell.
    """
    batch = next(objective.reading.batches()).rows(0, 2)
    with objective.evaluating():
        found = recorded(objective, layers, batch).gradients()
        for k in range(len(batch)):
            theta = {name: p.clone().requires_grad_() for name, p in objective.theta.items()}
            with torch.enable_grad():
                loss = objective.losses(theta, *batch.rows(k, k + 1)[:2]).sum()
            slopes = dict(zip(theta, torch.autograd.grad(loss, list(theta.values())), strict=True))
            most = max(float(slope.abs().max()) for slope in slopes.values())
            for name, slope in slopes.items():
                if float((found[name][k] - slope).abs().max()) > 1e-2 * float(slope.abs().max()) + 1e-4 * most:
                    raise ShapeError(
                        f"the gradient in {name} is not that of its layer's inputs and outputs: it is used outside of "
                        "the layer's call, or samples are not on the first axis there; leave it out of params=, or "
                        "use CG() or Arnoldi()"
                    )


@contextmanager
def _watching(layers: Sequence[Layer], given: Sequence[list[Tensor]], gone: Sequence[list[Tensor]]) -> Generator[None]:
    def hook(k: int) -> Callable[..., Tensor]:
        def watch(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            given[k].append(inputs[0].detach())
            gone[k].append(output)
            return output.clone()  # what comes behind may work in place

        return watch

    handles = [layer.module.register_forward_hook(hook(k)) for k, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
