"""Which parameters of a network: by name, pattern, module, kind of module or predicate; and as one flat vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ShapeError


@dataclass(frozen=True)
class Parameters:
    """Chosen parameters in the order of the model; vectors are theirs, flattened and joined, P numbers."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def count(self) -> int:
        """P."""
        return sum(self.sizes)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each parameter stands in a flat vector."""
        out: dict[str, slice] = {}
        start = 0
        for name, size in zip(self.names, self.sizes, strict=True):
            out[name] = slice(start, start + size)
            start += size
        return out

    def split(self, flat: Float[Tensor, "*m P"]) -> dict[str, Tensor]:
        """A flat vector, or several, by parameter."""
        parts = flat.split(self.sizes, -1)
        shaped = zip(self.names, parts, self.shapes, strict=True)
        return {name: part.reshape(*flat.shape[:-1], *shape) for name, part, shape in shaped}

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Back into a flat vector; the leading axes of the parts are kept."""
        flat = [parts[name].flatten(parts[name].ndim - len(shape)) if shape else parts[name][..., None]
                for name, shape in zip(self.names, self.shapes, strict=True)]  # fmt: skip
        return torch.cat(flat, -1)

    def values(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's own, detached."""
        known = dict(model.named_parameters(remove_duplicate=False))
        return {name: known[name].detach() for name in self.names}

    def coefficients(self, given: float | Mapping[str, float], what: str = "l2") -> Float[Tensor, " P"]:
        """One number a parameter: the same for all, or by name or pattern, 0 where none matches.

        Raises `ShapeError` for a negative one, or a pattern that matches nothing.
        """
        table = {"*": given} if isinstance(given, int | float) else dict(given)
        out = torch.zeros(self.count, dtype=torch.float64)
        for pattern, value in table.items():
            if not 0 <= value < float("inf"):
                raise ShapeError(f"{what}={value} for {pattern!r}; give a finite number that is not negative")
            found = [name for name in self.names if fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")]
            if not found:
                raise ShapeError(f"{what}: {pattern!r} matches none of the chosen parameters {some(self.names)}")
            for name in found:
                out[self.slices[name]] = value
        return out


def choose(model: nn.Module, wanted: Any = None) -> Parameters:
    """The trainable parameters that `wanted` names; a tied one counts once, under its first name.

    None is all of them; a string is a module's name ("layer4"), a parameter's, or a pattern ("layer4.*.weight"); then
    a module of the model, a kind of module (`nn.Linear`), a predicate `(name, parameter) -> bool`, or several of
    these. Raises `ShapeError` where one of them matches nothing, or frozen parameters alone.
    """
    every = dict(model.named_parameters(remove_duplicate=False))
    chosen: set[int] = set()
    several = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    for each in several:
        found = [name for name in every if _matches(model, each, name, every[name])]
        if not found and isinstance(each, type) and len(several) > 1:
            continue  # of several kinds of modules a model may lack some
        if not found:
            raise ShapeError(
                f"params={_said(each)} matches no parameter of {type(model).__name__}; it has {some(tuple(every))}"
            )
        if not any(every[name].requires_grad for name in found):
            raise ShapeError(
                f"params={_said(each)} matches frozen parameters only ({some(found)}); call requires_grad_() on them, "
                "or name others"
            )
        chosen |= {id(every[name]) for name in found if every[name].requires_grad}
    if not chosen:
        raise ShapeError(f"params={[_said(each) for each in several]} match no parameter; it has {some(tuple(every))}")
    names = tuple(name for name, value in model.named_parameters() if id(value) in chosen)
    return Parameters(names, tuple(every[name].shape for name in names))


def _matches(model: nn.Module, wanted: Any, name: str, value: nn.Parameter) -> bool:
    if wanted is None:
        return value.requires_grad
    if isinstance(wanted, str):
        return name == wanted or name.startswith(f"{wanted}.") or fnmatchcase(name, wanted)
    if isinstance(wanted, nn.Module):
        return any(value is other for other in wanted.parameters())
    if isinstance(wanted, type) and issubclass(wanted, nn.Module):
        return any(isinstance(module, wanted) and any(value is p for p in module.parameters(recurse=False))
                   for module in model.modules())  # fmt: skip
    if callable(wanted):
        return bool(wanted(name, value))
    raise ShapeError(
        f"params={wanted!r} is a {type(wanted).__name__}; give a name, a pattern, a module, a kind of module, a "
        "predicate (name, parameter), or a list of these"
    )


def _said(wanted: Any) -> str:
    return repr(wanted) if isinstance(wanted, str) else getattr(wanted, "__name__", type(wanted).__name__)


def some(names: Sequence[str]) -> str:
    """A few of many names."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


Selector = str | nn.Module | type[nn.Module] | Callable[[str, nn.Parameter], bool]
"""What names parameters; several of them in a list."""
