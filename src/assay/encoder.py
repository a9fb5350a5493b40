"""What stands before a head: a pipeline's transforms or a network, from raw features to the columns the head takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import ShapeError


@dataclass(frozen=True)
class Encoder:
    """`function(features)` gives the head's columns; `name` says what it is in words, and is all that a file keeps.

    Without a function (the head came from a file) raw features are refused: rows of as many columns would otherwise be
    scored as if they were encoded.
    """

    name: str
    function: Callable[[Any], Any] | None = None

    def __call__(self, features: Any) -> Any:
        """The encoded features; raises `ShapeError` where the function is not known."""
        if self.function is None:
            raise ShapeError(
                f"the head takes what {self.name} makes of the features, and that is not in its file; give it back by "
                "head.with_encoder(function), or with_encoder(None) for features that are encoded already"
            )
        return self.function(features)
