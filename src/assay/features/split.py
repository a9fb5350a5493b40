"""A network as encoder and head: the last trainable `nn.Linear`, and what comes in there.

The layer is found by running a batch and watching which linear layers are called; that the network's output is the
layer's output, and nothing else, is checked on that batch instead of assumed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ShapeError, SourceError

BATCH = 256


@dataclass(frozen=True)
class Split:
    """`model(x) = linear(embedding(x))`, `linear` being its module called `layer`."""

    model: nn.Module
    layer: str
    linear: nn.Linear

    @property
    def name(self) -> str:
        """In words."""
        return f"{type(self.model).__name__} before its layer {self.layer!r}"

    def embeddings(self, inputs: Tensor, *, batch: int = BATCH) -> Float[Tensor, "n d"]:
        """What comes into the layer for each input, on the CPU in the model's dtype; the model is left as it was found.

        Computed in `eval()` under `inference_mode`. Raises `SourceError` naming the first input whose embedding is not
        finite.
        """
        device = next(self.model.parameters()).device
        parts: list[Tensor] = []
        with _as_found(self.model):
            for start in range(0, len(inputs), batch):
                _, calls = _run(self.model, inputs[start : start + batch].to(device))
                parts.append(calls[self.layer][0][0].cpu())
        found = torch.cat(parts)
        if len(bad := (~torch.isfinite(found).all(1)).nonzero()):
            raise SourceError(
                f"the model's embedding of sample {int(bad[0])} is not finite; check that input, or the model's weights"
            )
        return found


def split(model: nn.Module, inputs: Tensor, *, layer: str | None = None) -> Split:
    """Finds the layer on a batch of inputs, or takes the one named `layer`.

    Raises `ShapeError` where the model has no such layer, its output is not the layer's (a softmax or another
    nonlinearity behind it, several outputs), or the layer is called twice, on more than one vector a sample, or shares
    its weights with another.
    """
    if not len(inputs):
        raise SourceError("there are no inputs to run the model on")
    device = next(model.parameters(), torch.empty(0)).device
    with _as_found(model):
        output, calls = _run(model, inputs[:BATCH].to(device))
    if not calls:
        raise ShapeError(
            f"{type(model).__name__} calls no trainable nn.Linear; its last layer must be one (a 1×1 convolution "
            "before the pooling can be moved behind it, as an equal nn.Linear)"
        )
    if layer is not None and layer not in calls:
        raise ShapeError(f"layer={layer!r} is no trainable nn.Linear that the model calls; those are {_some(calls)}")
    name = layer or list(calls)[-1]
    linear = dict(model.named_modules())[name]
    assert isinstance(linear, nn.Linear)
    _check(model, name, linear, calls[name], output, len(inputs[:BATCH]))
    return Split(model, name, linear)


Calls = dict[str, list[tuple[Tensor, Tensor]]]
"""Input and output of each call of each linear layer, layers in the order of their last call."""


def _run(model: nn.Module, inputs: Tensor) -> tuple[Any, Calls]:
    """The output, and what the trainable linear layers saw."""
    calls: Calls = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] = [*calls.pop(name, []), (given[0], output)]

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in _linears(model)]
    try:
        with torch.inference_mode():
            output = model(inputs)
    except (RuntimeError, ValueError, TypeError) as cause:
        kind = type(model).__name__
        raise ShapeError(f"{kind} cannot run on inputs of shape {list(inputs.shape)}: {cause}") from cause
    finally:
        for handle in handles:
            handle.remove()
    return output, calls


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.weight.requires_grad:
            yield name, module


@contextmanager
def _as_found(model: nn.Module) -> Generator[None]:
    """In `eval()`, every module's own flag put back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def _check(
    model: nn.Module, name: str, linear: nn.Linear, calls: list[tuple[Tensor, Tensor]], output: Any, rows: int
) -> None:
    kind = type(model).__name__
    if not isinstance(output, Tensor):
        raise ShapeError(f"{kind} returns {_outputs(output)}; wrap it so that it returns the logits of one head alone")
    if len(calls) > 1:
        raise ShapeError(f"layer {name!r} is called {len(calls)} times a run; a head is called once, on the embedding")
    given, logits = calls[0]
    if given.ndim != 2 or len(given) != rows:
        raise ShapeError(f"layer {name!r} sees {list(given.shape)} for {rows} samples; a head sees one vector a sample")
    shared = [other for other, p in model.named_parameters(remove_duplicate=False) if p is linear.weight]
    if len(shared) > 1:
        raise ShapeError(f"the weights of layer {name!r} are tied ({_some(shared)}); the head must be its own")
    if output.shape != logits.shape or not torch.equal(output, logits):
        raise ShapeError(
            f"the output of {kind} is not that of its last linear layer {name!r}: {_between(output, logits)}; "
            "return the logits of that layer"
        )


def _between(output: Tensor, logits: Tensor) -> str:
    """What stands between them, where that can be told."""
    if output.shape != logits.shape:
        return f"it has shape {list(output.shape)}, the layer gives {list(logits.shape)}"
    known = {
        "a softmax": torch.softmax(logits, -1),
        "a log-softmax": torch.log_softmax(logits, -1),
        "a sigmoid": torch.sigmoid(logits),
        "a ReLU": torch.relu(logits),
        "a tanh": torch.tanh(logits),
    }
    found = [name for name, value in known.items() if torch.allclose(value, output, atol=1e-6)]
    return f"{found[0]} follows it" if found else "something else is computed behind it or beside it"


def _outputs(output: Any) -> str:
    size = f" of {len(output)}" if isinstance(output, tuple | list | dict) else ""
    return f"a {type(output).__name__}{size}"


def _some(names: Any) -> str:
    return ", ".join(repr(name) for name in list(names)[:8])
