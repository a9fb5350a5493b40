"""Ids that repeat are found by 64-bit hashes: 8 bytes a row, whatever the ids are."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import SourceError, UnknownIdError
from .source import Source


def hashed(ids: pa.Array) -> np.ndarray:
    """uint64 [b]: an integer is its own hash, a string has the first 8 bytes of its BLAKE2b."""
    if pa.types.is_int64(ids.type):
        return ids.to_numpy().view(np.uint64)
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in ids.to_pylist())
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def ids_of_type(ids: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Ids that a caller gives, as those of a source; raises `UnknownIdError` where they cannot be."""
    try:
        return pa.array(list(ids), kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as cause:
        raise UnknownIdError(f"the ids are {kind}; {list(ids)[:3]!r} are not") from cause


def refuse_twins(hashes: np.ndarray, source: Source) -> None:
    """Raises `SourceError` naming an id that two rows share; rows whose hashes agree by chance are told apart."""
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    suspects = np.flatnonzero(ranked[1:] == ranked[:-1])
    for i in suspects.tolist():
        rows = [int(order[i]), int(order[i + 1])]
        one, other = source.take(rows).ids.to_pylist()
        if one == other:
            raise SourceError(
                f"ids repeat in column {source.key!r}: {one!r} is the id of rows {rows[0]} and {rows[1]}; "
                "make ids unique, drop the duplicates or name another column with id="
            )
