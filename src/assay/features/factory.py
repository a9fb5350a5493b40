"""A network named on the command line: `package.module:factory`, and its weights from a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import SourceError
from .weights import load_weights


def build(named: str, weights: str | Path | None) -> tuple[nn.Module, Callable[[Any], Any] | None]:
    """What `factory()` returns: a model, or a model and the transform of its images; its weights loaded.

    The module is looked for as Python does, and in the current folder. Raises `SourceError` where it is not there, or
    returns something else.
    """
    module, _, name = named.partition(":")
    if not module or not name:
        raise SourceError(f"--model {named} names no factory; give package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        factory = getattr(import_module(module), name)
    except ImportError as cause:
        raise SourceError(f"--model {named}: {module} cannot be imported ({cause})") from cause
    except AttributeError as cause:
        raise SourceError(f"--model {named}: {module} has no {name!r}") from cause
    if not callable(factory):
        raise SourceError(f"--model {named} is a {type(factory).__name__}; name a function that makes the model")
    made: Any = factory()
    model, transform = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module) or not (transform is None or callable(transform)):
        raise SourceError(
            f"--model {named} returned a {type(made).__name__}; return the model, or it and a transform of images"
        )
    return (model if weights is None else load_weights(model, weights)), transform
