"""Annotations of assay, shapes included, are checked in tests: of each function the first calls in each test, and some
of those after them. A whole audit makes ten thousand calls, and would take three times as long if all were checked."""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

import jaxtyping

FIRST, EVERY = 8, 16
_checked = jaxtyping.jaxtyped
_tests = 0


def begin() -> None:
    """Another test begins."""
    global _tests
    _tests += 1


def sparingly(*, typechecker: Any) -> Any:
    """`jaxtyping.jaxtyped`, for some calls of a function; classes (dataclasses as they are made) always."""

    def decorate(function: Any) -> Any:
        checked = _checked(function, typechecker=typechecker)
        if not isinstance(function, FunctionType):
            return checked
        test = calls = 0

        @functools.wraps(function)
        def either(*args: Any, **kwargs: Any) -> Any:
            nonlocal test, calls
            if test != _tests:
                test, calls = _tests, 0
            calls += 1
            called = checked if calls <= FIRST or calls % EVERY == 0 else function
            return called(*args, **kwargs)

        return either

    return decorate


jaxtyping.jaxtyped = sparingly  # what the hook puts before each function
jaxtyping.install_import_hook("assay", "beartype.beartype")
