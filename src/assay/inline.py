"""Pictures as text that stands inside a page: a matplotlib figure as SVG, a thumbnail as a `data:` address.

Nothing in what is returned names a host, and colours are the page's own (`var(--ink)`, …), so that a figure follows the
page from light to dark.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from . import canvas

# What canvas.py gives the plots → the page's custom property of the same meaning.
PROPERTIES = {
    "#000000": "--ink",
    canvas.INK: "--ink",
    canvas.MUTED: "--muted",
    canvas.LINE: "--line",
    canvas.BLUE: "--blue",
    canvas.GREEN: "--green",
    canvas.VERMILLION: "--vermillion",
    canvas.GREY: "--grey",
    "#ffffff": "--on-deep",
}
# Text stays text (searchable, in the page's font) and every run gives the same identifiers.
SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "assay", "font.size": 10, "legend.fontsize": 9}


def figure_svg(draw: Callable[..., Axes], name: str, label: str, *, width: float = 6.4, height: float = 3.6) -> Markup:
    """What `draw(ax=…)` puts on an axes of `width` × `height` inches, as `<svg>`; `label` is read out in its place.

    `name`, unique on the page, is put before every identifier: two figures share one document.
    """
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the page's fonts draw the text
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        ax = figure.subplots()
        ax.set_facecolor("none")
        draw(ax=ax)
        out = io.StringIO()
        figure.savefig(
            out, format="svg", dpi=144, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    opening = f'<svg viewBox="0 0 {72 * width:g} {72 * height:g}" role="img" aria-label="{escape(label)}">'
    return Markup(opening + _content(out.getvalue(), name))  # safe: matplotlib escapes every text it writes


def _content(svg: str, name: str) -> str:
    """What stands inside `<svg>`, to its end: identifiers made the figure's own, colours the page's."""
    svg = re.sub(r"^.*?<svg[^>]*>|<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg).replace("xlink:href", "href")
    for color, variable in PROPERTIES.items():
        svg = svg.replace(f": {color}", f": var({variable})")
    return svg


def thumbnail(png: bytes, largest: int) -> str:
    """A `data:` address of the picture, shrunk to at most `largest` pixels a side; small pictures stay as they are."""
    with Image.open(io.BytesIO(png)) as image:
        if max(image.size) > largest:
            image.thumbnail((largest, largest))
            out = io.BytesIO()
            image.save(out, "PNG")
            png = out.getvalue()
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
