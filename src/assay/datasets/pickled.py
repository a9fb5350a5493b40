"""A dictionary of arrays out of a pickle, read as data: nothing that the pickle names is imported or called.

The opcodes are walked with `pickletools`, and only those are known of which a dictionary of lists, strings, numbers and
NumPy arrays is made, by Python 2 as by Python 3.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import SourceError

CONSTANTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
SINGLE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_DICT": dict, "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}  # fmt: skip
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Type:
    """A numeric type on its way: its code, such as "u1", and then its byte order."""

    def __init__(self, code: str, *flags: Any) -> None:
        if not re.fullmatch(r"[biuf][1248]", code):
            raise ValueError(f"arrays of type {code!r} are not read")
        self.type = np.dtype(code)

    def build(self, state: Any) -> None:
        self.type = self.type.newbyteorder(state[1] if state[1] in "<>" else "=")


class _Array:
    """An array on its way: nothing, and then shape, type, order and bytes."""

    array = np.empty(0)

    def build(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self._fill(data, kind, shape, "F" if fortran else "C")

    def _fill(self, data: Any, kind: _Type, shape: Any, order: Any) -> _Array:
        raw = data.encode("latin-1") if isinstance(data, str) else data
        self.array = np.frombuffer(raw, kind.type).reshape(shape, order=order)
        return self

    @classmethod
    def of(cls, data: Any, kind: _Type, shape: Any, order: Any) -> _Array:
        return cls()._fill(data, kind, shape, order)


KNOWN: dict[str, Any] = {
    "numpy.ndarray": None,
    "numpy.dtype": _Type,
    "_codecs.encode": lambda text, encoding: text.encode("latin-1"),  # how Python 3 wrote bytes for Python 2
}
for _numpy in ("numpy.core", "numpy._core"):
    KNOWN[f"{_numpy}.multiarray._reconstruct"] = lambda kind, shape, code: _Array()
    KNOWN[f"{_numpy}.numeric._frombuffer"] = _Array.of


def read_pickled(raw: bytes, name: str) -> dict[str, Any]:
    """The dictionary that these bytes pickle, its keys as text; `name` stands in the errors.

    Raises `SourceError` where they are no pickle, end early, or ask for anything that is not of an array.
    """
    machine = _Machine(name)
    try:
        for opcode, argument, _ in pickletools.genops(raw):
            machine.step(opcode.name, argument)
        found = machine.stack.pop()
        pairs = {k if isinstance(k, str) else k.decode("latin-1"): v for k, v in found.items()}
    except SourceError:
        raise
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError, MemoryError) as cause:
        raise SourceError(f"{name} is damaged, or no pickled batch: {cause}; get it again") from cause
    return {key: value.array if isinstance(value, _Array) else value for key, value in pairs.items()}


class _Machine:
    """The stack on which a pickle builds its object, the marks within it, and what it was told to remember."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, code: str, argument: Any) -> None:
        if code in CONSTANTS:
            self.stack.append(argument)
        elif code in SINGLE:
            self.stack.append(SINGLE[code]())
        elif code in TUPLES:
            self.stack.append(tuple(self._take(len(self.stack) - TUPLES[code])))
        elif code in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if code == "MEMOIZE" else argument] = self.stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif code not in ("PROTO", "FRAME", "STOP"):
            method = getattr(self, f"_{code.lower()}", None)
            if method is None:
                raise SourceError(f"{self.name} holds the pickle opcode {code}, which no array needs; it is not read")
            method(argument)

    def _take(self, start: int) -> list[Any]:
        """The top of the stack from this place on, off it."""
        if start < 0:
            raise IndexError("its stack is too short")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._take(self.marks.pop())))

    def _list(self, _: Any) -> None:
        self.stack.append(self._take(self.marks.pop()))

    def _dict(self, _: Any) -> None:
        items = self._take(self.marks.pop())
        self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        self.stack[-1].append(value)

    def _appends(self, _: Any) -> None:
        values = self._take(self.marks.pop())
        self.stack[-1].extend(values)

    def _setitem(self, _: Any) -> None:
        key, value = self._take(len(self.stack) - 2)
        self.stack[-1][key] = value

    def _setitems(self, _: Any) -> None:
        items = self._take(self.marks.pop())
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _stack_global(self, _: Any) -> None:
        self._name(*self._take(len(self.stack) - 2))

    def _name(self, module: str, name: str) -> None:
        if f"{module}.{name}" not in KNOWN:
            raise SourceError(
                f"{self.name} asks for {module}.{name}, which no array needs and which could run anything; "
                "it was not called, get the file from a source you trust"
            )
        self.stack.append(KNOWN[f"{module}.{name}"])

    def _reduce(self, _: Any) -> None:
        function, arguments = self._take(len(self.stack) - 2)
        if not any(function is known for known in KNOWN.values() if known is not None):
            raise SourceError(f"{self.name} calls {function!r}, which no array needs; it was not called")
        self.stack.append(function(*arguments))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Type | _Array):
            raise SourceError(f"{self.name} changes a {type(self.stack[-1]).__name__}, which no array needs")
        self.stack[-1].build(state)
