"""What a request asks, checked: a query's or a body's values, each of its type and within bounds."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.requests import Request

from ...errors import ShapeError


def whole(text: str | None, name: str, *, least: int, most: int) -> int | None:
    """A whole number of a query."""
    if text is None or text == "":
        return None
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 20:
        raise ShapeError(f"{name}={text[:40]!r} is no whole number")
    value = int(text)
    if not least <= value <= most:
        raise ShapeError(f"{name}={value} is not between {least} and {most}")
    return value


def wholes(text: str | None, name: str, *, least: int, most: int, count: int) -> list[int]:
    """Whole numbers of a query with commas between them, 1 to `count` of them, each once."""
    parts = (text or "").split(",", count)
    if len(parts) > count:
        raise ShapeError(f"{name} holds more than {count} numbers; ask several times")
    values = [whole(part, name, least=least, most=most) for part in parts]
    if None in values:
        raise ShapeError(f"{name} is to be whole numbers with commas between them")
    return list(dict.fromkeys(value for value in values if value is not None))


def real(text: str | None, name: str) -> float | None:
    """A finite number of a query."""
    if text is None or text == "":
        return None
    try:
        value = float(text) if len(text) <= 40 else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ShapeError(f"{name}={text[:40]!r} is no finite number")
    return value


def word(text: str | None) -> str | None:
    """A text of a query; an empty one asks nothing."""
    return text or None


async def body(request: Request) -> dict[str, Any]:
    """The body, a JSON object."""
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError) as cause:
        raise ShapeError("the body is no JSON") from cause
    if not isinstance(found, dict):
        raise ShapeError("the body is no JSON object")
    return found


def text(body: dict[str, Any], name: str, *, most: int, needed: bool = False) -> str | None:
    """A text of a body, of `most` characters."""
    value = body.get(name)
    if value is None and not needed:
        return None
    if not isinstance(value, str) or len(value) > most or (needed and not value.strip()):
        raise ShapeError(f"{name} is to be a text of {'1 to ' if needed else 'at most '}{most} characters")
    try:
        value.encode()
    except UnicodeEncodeError as cause:
        raise ShapeError(f"{name} holds half a character") from cause
    return value.strip() if needed else value


def flag(body: dict[str, Any], name: str) -> bool:
    """A yes or no of a body; absent is no."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise ShapeError(f"{name} is to be true or false")
    return value


def rows(body: dict[str, Any], *, most: int, below: int) -> list[int]:
    """The rows of a body, each once."""
    value = body.get("rows")
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise ShapeError(f"rows is to be a list of 1 to {most} rows")
    for row in value:
        if type(row) is not int or not 0 <= row < below:
            raise ShapeError(f"row {str(row)[:40]} is not there; the audit has rows 0 to {below - 1}")
    return list(dict.fromkeys(value))
