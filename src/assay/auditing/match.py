"""New samples for a saved head: the columns it was fitted to, found by name."""

from __future__ import annotations

import os
from typing import Any

from ..head import Head
from ..sources.frame import is_frame
from ..sources.open import open_source
from ..sources.samples import matched
from ..sources.source import Source


def open_matching(new: Any, audited: dict[str, Any], head: Head, named: dict[str, Any]) -> Source:
    """The new samples with the head's columns and classes; `audited` tells the columns it was made of by role.

    Raises `SourceError` where they cannot be read or have another class, `ShapeError` where a column is missing.
    """
    if _is_table(new):
        named = {**_roles(audited, head, named), **named}
    source = open_source(new, regression=not head.family.classifies, vocabulary=head.vocabulary, **named)
    return matched(source, head.columns, head.vocabulary)


def _is_table(new: Any) -> bool:
    if isinstance(new, str | os.PathLike):
        return not os.fspath(new).endswith((".npz", ".npy"))
    return is_frame(new)


def _roles(audited: dict[str, Any], head: Head, named: dict[str, Any]) -> dict[str, Any]:
    """Label and features by the names they had, where those were the user's and no others are given."""
    if audited["embedding"] == "x" and head.columns[0] == "x0":  # arrays have no names of their own
        return {}
    labels = list(audited["labels"])
    roles: dict[str, Any] = {"label": labels if len(labels) > 1 else labels[0]}
    if "features" in named or "embedding" in named:
        return roles
    embedding = audited["embedding"]
    return {**roles, **({"embedding": embedding} if embedding else {"features": list(audited["features"])})}
