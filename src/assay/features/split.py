"""A network as encoder and head: the last trainable `nn.Linear`, and what comes in there.

The layer is found by running a batch and watching which linear layers are called; that the network's output is the
layer's output, and nothing else, is checked on that batch instead of assumed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ShapeError, SourceError
from ..evaluating import as_found, weights_digest
from ..sources.examples import BATCH, Inputs

ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object, another in every process


@dataclass(frozen=True)
class Split:
    """`model(x) = linear(embedding(x))`, `linear` being its module called `layer`; run in bfloat16 where `half`.

    Where `mirror`, the embedding of an image is the mean of its own and its mirror image's, or the latter ("only").
    """

    model: nn.Module
    layer: str
    linear: nn.Linear
    half: bool = False
    mirror: bool | str | None = False

    @property
    def name(self) -> str:
        """In words."""
        return f"{type(self.model).__name__} before its layer {self.layer!r}"

    def embed(self, inputs: Inputs) -> Float[Tensor, "b d"]:
        """What comes into the layer for each input of one batch, on the CPU; float32 unless the model is float64.

        Computed in `eval()` without gradients; the model is left as it was found.
        """
        if not self.mirror:
            return self._seen(inputs)
        if self.mirror == "only":
            return self._seen(mirrored(inputs))
        return (self._seen(inputs) + self._seen(mirrored(inputs))) / 2

    def _seen(self, inputs: Inputs) -> Float[Tensor, "b d"]:
        seen: list[Tensor] = []

        def hook(_module: nn.Module, given: tuple[Tensor, ...], _output: Tensor) -> None:
            seen.append(given[0].clone())

        handle = self.linear.register_forward_hook(hook)
        try:
            with as_found(self.model):
                _run(self.model, inputs, half=self.half)
        finally:
            handle.remove()
        found = seen[0].cpu()
        return found if found.dtype == torch.float64 else found.float()

    def embeddings(self, inputs: Tensor, *, batch: int = BATCH) -> Float[Tensor, "n d"]:
        """`embed` of any number of inputs; raises `SourceError` naming the first whose embedding is not finite."""
        found = torch.cat([self.embed(inputs[start : start + batch]) for start in range(0, len(inputs), batch)])
        if len(bad := (~torch.isfinite(found).all(1)).nonzero()):
            raise SourceError(
                f"the model's embedding of sample {int(bad[0])} is not finite; check that input, or the model's weights"
            )
        return found

    def fingerprint(self) -> str:
        """SHA-256 of the modules with their settings, the weights and buffers, of which layer, and of the precision."""
        digest = hashlib.sha256(f"{self.layer} {self.half} {self.mirror}".encode())
        for name, module in self.model.named_modules():
            digest.update(f"{name} {type(module).__qualname__} {ADDRESS.sub('', module.extra_repr())}".encode())
        digest.update(weights_digest(self.model).encode())
        return digest.hexdigest()


def split(
    model: nn.Module, inputs: Inputs, *, layer: str | None = None, half: bool = False, mirror: bool | str | None = False
) -> Split:
    """Finds the layer on a batch of inputs, or takes the one named `layer`.

    Raises `ShapeError` where the model has no such layer, its output is not the layer's (a softmax or another
    nonlinearity behind it, several outputs), or the layer is called twice, on more than one vector a sample, or shares
    its weights with another; `SourceError` where a logit is not finite.
    """
    rows = rows_of(inputs)
    if not rows:
        raise SourceError("there are no inputs to run the model on")
    with as_found(model), _Watch(model, layer) as watch:
        output = _run(model, inputs, half=half)
    if not watch.calls:
        raise ShapeError(
            f"{type(model).__name__} calls no trainable nn.Linear; its last layer must be one (a 1×1 convolution "
            "before the pooling can be moved behind it, as an equal nn.Linear)"
        )
    if layer is not None and layer not in watch.calls:
        raise ShapeError(
            f"layer={layer!r} is no trainable nn.Linear that the model calls; those are {_some(watch.calls)}"
        )
    linear = dict(model.named_modules())[watch.layer]
    assert isinstance(linear, nn.Linear)
    _check(model, linear, watch, _logits(output), rows)
    if mirror:
        mirrored(inputs)
    return Split(model, watch.layer, linear, half, mirror)


def mirrored(inputs: Inputs) -> Tensor:
    """Images `[n, c, h, w]` left to right; raises `ShapeError` where the inputs are none."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 4:
        shape = list(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise ShapeError(f"mirror= is for images [n, c, h, w], but the inputs are {shape}; leave it out")
    return inputs.flip(3)


def rows_of(inputs: Inputs) -> int:
    """Samples in a batch of inputs."""
    if isinstance(inputs, Tensor):
        return len(inputs)
    return len(next(iter(inputs.values() if isinstance(inputs, dict) else inputs)))


class _Watch:
    """How often a run calls each trainable linear layer, and copies of what the last of them (or `layer`) saw and gave.

    Copies, for what comes behind a layer may work in place.
    """

    def __init__(self, model: nn.Module, layer: str | None) -> None:
        self.calls: dict[str, int] = {}
        self.layer = layer or ""
        self.given = self.output = torch.empty(0)
        self._handles = [
            module.register_forward_hook(self._hook(name, named=layer)) for name, module in _linears(model)
        ]

    def _hook(self, name: str, *, named: str | None) -> Any:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            if named is None or name == named:
                self.layer, self.given, self.output = name, given[0].clone(), output.clone()

        return hook

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_raised: object) -> None:
        for handle in self._handles:
            handle.remove()


def _run(model: nn.Module, inputs: Inputs, *, half: bool) -> Any:
    """The model's output, without gradients; raises `ShapeError` for whatever it raises."""
    like = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad(), torch.autocast(like.device.type, torch.bfloat16) if half else nullcontext():
            return _called(model, inputs, like)
    except Exception as cause:  # the model is somebody else's code
        raise ShapeError(
            f"{type(model).__name__} cannot run on inputs {_shapes(inputs)}: {type(cause).__name__}: {cause}"
        ) from cause


def _called(model: nn.Module, inputs: Inputs, like: Tensor) -> Any:
    """On the device of the parameters, floats as theirs."""

    def placed(value: Tensor) -> Tensor:
        return value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)

    if isinstance(inputs, dict):
        return model(**{name: placed(value) for name, value in inputs.items()})
    if isinstance(inputs, tuple):
        return model(*map(placed, inputs))
    return model(placed(inputs))


def _logits(output: Any) -> Any:
    """A tensor as it is; the `.logits` of an output that has some, as those of Hugging Face's models."""
    return getattr(output, "logits", output) if not isinstance(output, Tensor) else output


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.weight.requires_grad:
            yield name, module


def _check(model: nn.Module, linear: nn.Linear, watch: _Watch, output: Any, rows: int) -> None:
    kind, name, count = type(model).__name__, watch.layer, watch.calls[watch.layer]
    given, logits = watch.given, watch.output
    if not isinstance(output, Tensor):
        raise ShapeError(f"{kind} returns {_outputs(output)}; wrap it so that it returns the logits of one head alone")
    if count > 1:
        raise ShapeError(f"layer {name!r} is called {count} times a run; a head is called once, on the embedding")
    if given.ndim != 2 or len(given) != rows:
        raise ShapeError(f"layer {name!r} sees {list(given.shape)} for {rows} samples; a head sees one vector a sample")
    shared = [other for other, p in model.named_parameters(remove_duplicate=False) if p is linear.weight]
    if len(shared) > 1:
        raise ShapeError(f"the weights of layer {name!r} are tied ({_some(shared)}); the head must be its own")
    same = output.shape == logits.shape and bool(torch.isclose(output, logits, rtol=0, atol=0, equal_nan=True).all())
    if not same:
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


def _shapes(inputs: Inputs) -> str:
    if isinstance(inputs, Tensor):
        return f"of shape {list(inputs.shape)}"
    named = inputs.items() if isinstance(inputs, dict) else enumerate(inputs)
    return "of shapes " + ", ".join(f"{name}: {list(value.shape)}" for name, value in named)


def _some(names: Any) -> str:
    return ", ".join(repr(name) for name in list(names)[:8])
