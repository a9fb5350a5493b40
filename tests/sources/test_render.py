"""Samples for people."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pyarrow as pa
from PIL import Image
from samples import FRAME, WORDS, D, N, X

from assay.sources import open_source


def test_images_render_as_thumbnails_on_the_scale_of_the_source():
    pixels = np.zeros((3, 2, 4), np.uint8)
    pixels[1, 0, 0], pixels[2, 1, 3] = 255, 51
    source = open_source((pixels, [0, 1, 1]))
    assert source.image_shape == (2, 4)
    image = np.asarray(Image.open(BytesIO(source.render(2).png)))
    assert image.shape == (2, 4)
    assert image[1, 3] == 51
    assert open_source((np.zeros((3, 2, 4, 3)), [0, 1, 1])).render(0).png.startswith(b"\x89PNG")


def test_a_table_renders_its_fields():
    table = pa.table({**FRAME, "note": [f"row {i}" for i in range(N)], "e": list(X)})
    shown = open_source(table, features="f*", image_shape=(2, 2)).render(3)
    assert shown.png is not None
    assert shown.fields == {"label": WORDS[3], "note": "row 3"}
    shown = open_source(table, features="f0").render(3)
    assert shown.png is None
    assert shown.fields == {**{f"f{j}": float(X[3, j]) for j in range(D)}, "label": WORDS[3], "note": "row 3"}
