"""The tree of exceptions: catch `AssayError` for everything this library refuses, or one branch of it.

    AssayError (Exception)
    ├── SourceError (ValueError)             data that cannot be audited; says which file, column and row
    ├── ShapeError (ValueError)              arrays whose shapes disagree
    ├── UnknownIdError (KeyError)            an id that no sample has
    ├── SingularCurvatureError (ValueError)  a curvature without an inverse; .rank, .size, .columns
    ├── SeparableError (ValueError)          the optimum lies at infinity
    ├── ConvergenceError (RuntimeError)      an iteration that did not reach its tolerance
    ├── OutputError (OSError)                a file or folder that cannot be written, or is not ours to write
    ├── EngineError (RuntimeError)           shards still missing after the last round
    └── ExtraError (ImportError)             an optional package that is not installed; says which extra brings it

    AssayWarning (UserWarning)               something a user can act on, said once

Each also is the built-in error in brackets, so code that knows nothing of this library catches it too. Every message
says what was found, where, what was expected and what to do.
"""

from __future__ import annotations


class AssayError(Exception):
    """Whatever this library refuses to do."""


class SourceError(AssayError, ValueError):
    """Data that cannot be audited: the message names the file, the column and the row."""


class ShapeError(AssayError, ValueError):
    """Arrays whose shapes disagree."""


class UnknownIdError(AssayError, KeyError):
    """An id that no sample has."""

    def __str__(self) -> str:
        """The message as it is; `KeyError` would print its repr."""
        return " ".join(str(part) for part in self.args)


class SingularCurvatureError(AssayError, ValueError):
    """A curvature of `size` parameters but smaller `rank`; `columns` are those that depend on each other."""

    def __init__(self, message: str, *, rank: int = 0, size: int = 0, columns: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.rank = rank
        self.size = size
        self.columns = columns


class SeparableError(AssayError, ValueError):
    """The classes are separated perfectly and nothing is penalised: the optimum lies at infinity."""


class ConvergenceError(AssayError, RuntimeError):
    """An iteration that stopped before its tolerance."""


class OutputError(AssayError, OSError):
    """A file or folder that cannot be written, holds something else, or is damaged."""


class EngineError(AssayError, RuntimeError):
    """Shards still missing after the last round."""


class ExtraError(AssayError, ImportError):
    """An optional package that is not installed; the message says which extra brings it."""


class AssayWarning(UserWarning):
    """Something a user can act on."""
