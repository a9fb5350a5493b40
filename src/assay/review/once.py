"""What is worked out once for an audit and kept as long as the process asks about that audit."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TypeVar

from ..auditing.result import Audit

Result = TypeVar("Result")


def once(function: Callable[[Audit], Result]) -> Callable[[Audit], Result]:
    """The same function, which keeps its last result with the folder of the audit that it is of."""
    held: dict[Path, Result] = {}

    @wraps(function)
    def remembered(audit: Audit) -> Result:
        if audit.path not in held:
            found = function(audit)
            held.clear()
            held[audit.path] = found
        return held[audit.path]

    return remembered
