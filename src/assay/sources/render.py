"""A row of numbers as a small picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
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


SIDE = 96  # pixels of a picture's longer side, at most


def picture(inputs: Any) -> list[bytes] | None:
    """PNGs of a batch of images [n, c, h, w] (c = 1, 3 or 4), small; None where the inputs are no images.

    Values in [0, 1] (or bytes) are drawn as they are, others between their own smallest and largest.
    """
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 4 or inputs.shape[1] not in (1, 3, 4):
        return None
    pixels = inputs.detach().cpu().permute(0, 2, 3, 1)
    values = (pixels / 255 if pixels.dtype == torch.uint8 else pixels).double().numpy()
    return [_png(image) for image in values]


def _png(image: np.ndarray) -> bytes:
    low, high = float(np.nanmin(image)), float(np.nanmax(image))
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    grey = np.clip((image - low) / (high - low if high > low else 1.0), 0, 1)
    drawn = np.round(255 * np.nan_to_num(grey)).astype(np.uint8)
    made = Image.fromarray(drawn[:, :, 0] if drawn.shape[2] == 1 else drawn)
    made.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    made.save(file, format="PNG", compress_level=1)
    return file.getvalue()
