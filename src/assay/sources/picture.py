"""A picture from a data set as a PNG of ours: decoded within bounds, made small, written anew."""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

from ..errors import SourceError

PIXELS = 50_000_000  # of a picture, at most: a file of some kilobytes can claim to hold billions
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")  # no vector formats: they hold programs and addresses


def as_png(data: bytes, side: int | None = None) -> bytes:
    """The first frame, at most `side` pixels a side, without whatever else the file holds.

    Raises `SourceError` for what is no picture, is cut off, or has more than `PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own remarks on odd files
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > PIXELS:
                    raise SourceError(
                        f"the picture claims {image.width} × {image.height} pixels; the most is {PIXELS:,}"
                    )
                if side is not None:
                    image.draft("RGB", (side, side))
                made = _plain(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as cause:
        if isinstance(cause, SourceError):
            raise
        raise SourceError("the picture cannot be decoded") from cause
    if side is not None and max(made.size) > side:
        made.thumbnail((side, side))
    out = io.BytesIO()
    made.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _plain(image: Image.Image) -> Image.Image:
    """The pixels alone: grey, RGB or RGBA."""
    if image.mode.startswith("I"):
        return image.point(lambda value: value / 256).convert("L")
    return image.copy() if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB")
