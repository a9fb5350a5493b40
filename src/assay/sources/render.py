"""A row of numbers as a small picture."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def thumbnail(values: np.ndarray, shape: tuple[int, ...], limits: tuple[float, float] | None) -> bytes:
    """PNG of values [h · w] or [h · w · c], `limits` (or the row's own smallest and largest) as black and white."""
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    span = high - low if high > low else 1.0
    grey = np.clip((values.astype(np.float64) - low) / span, 0.0, 1.0)
    pixels = np.round(255 * np.nan_to_num(grey)).astype(np.uint8).reshape(shape)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
