"""New samples for a saved head: the columns it was fitted to, found by name."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ShapeError
from ..head import Head
from ..sources.frame import is_frame
from ..sources.open import open_source
from ..sources.source import Source
from ..sources.table import TableSource


def open_matching(new: Any, audited: dict[str, Any], head: Head, named: dict[str, Any]) -> tuple[Source, list[int]]:
    """The new samples, and where each of the head's columns stands among theirs; `audited` tells the columns by role.

    Columns of two tables are matched by name, further ones are left aside; those of arrays and embeddings by position.
    Raises `SourceError` where they cannot be read or have another class, `ShapeError` where a column is missing.
    """
    if _is_table(new):
        named = {**_roles(audited, head, named), **named}
    source = open_source(new, regression=not head.family.classifies, vocabulary=head.vocabulary, **named)
    if audited["embedding"] is not None or _is_embedded(source):
        if len(source.columns) != len(head.columns):
            raise ShapeError(f"{len(source.columns)} feature columns; the head was made for {len(head.columns)}")
        return source, list(range(len(head.columns)))
    missing = [name for name in head.columns if name not in source.columns]
    if missing:
        raise ShapeError(
            f"{len(missing)} of the head's {len(head.columns)} columns are missing: {', '.join(missing[:8])}; "
            f"the features found are {', '.join(source.columns[:8])}"
        )
    return source, [source.columns.index(name) for name in head.columns]


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


def _is_embedded(source: Source) -> bool:
    return isinstance(source, TableSource) and source.choice.embedding is not None
