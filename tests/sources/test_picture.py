"""Pictures of unknown origin: made small and written anew, or refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import assay
from assay.sources.picture import PIXELS, as_png


def encoded(image: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def opened(png: bytes) -> Image.Image:
    assert png.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(png))


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], bands), np.uint8)
    return Image.fromarray(pixels[..., 0] if bands == 1 else pixels, mode)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_pixels_stay_as_they_are(format: str):
    image = noise()
    options = {"lossless": True} if format == "WEBP" else {}
    assert np.array_equal(np.asarray(opened(as_png(encoded(image, format, **options)))), np.asarray(image))


def test_a_large_picture_is_made_small_and_a_small_one_is_not():
    assert opened(as_png(encoded(noise(size=(400, 100)), "PNG"), 96)).size == (96, 24)
    assert opened(as_png(encoded(noise(size=(800, 600)), "JPEG"), 96)).size == (96, 72)
    assert opened(as_png(encoded(noise(size=(8, 8)), "PNG"), 96)).size == (8, 8)


def test_depth_palette_and_transparency():
    deep = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257)
    assert np.array_equal(np.asarray(opened(as_png(encoded(deep, "PNG")))).ravel(), np.arange(256))
    assert opened(as_png(encoded(noise().quantize(8), "PNG"))).mode == "RGB"
    clear = noise("RGBA")
    assert np.array_equal(np.asarray(opened(as_png(encoded(clear, "PNG")))), np.asarray(clear))


def test_nothing_but_the_pixels_goes_on():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "<script>secret</script>")
    data = encoded(noise(), "PNG", pnginfo=info) + b"<script>trailing</script>"
    assert b"script" not in as_png(data)
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    assert b"secret" not in as_png(encoded(noise(), "JPEG", exif=exif))


def bomb(width: int, height: int) -> bytes:
    """A PNG of some bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(10_000, 10_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1), (PIXELS + 1, 1)])
def test_a_decompression_bomb_is_refused(size: tuple[int, int]):
    with pytest.raises(assay.SourceError, match="the picture"):
        as_png(bomb(*size), 96)


@pytest.mark.parametrize("keep", [0, 1, 20, 60, 500])
def test_a_truncated_picture_is_refused(keep: int):
    with pytest.raises(assay.SourceError, match="cannot be decoded"):
        as_png(encoded(noise(), "PNG")[:keep], 96)
    if keep > 300:
        with pytest.raises(assay.SourceError, match="cannot be decoded"):
            as_png(encoded(noise(), "JPEG")[:keep], 96)


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(file) run", b"%PDF-1.4", b"<html>", b"\x00" * 99, b"GIF89a",
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(data: bytes):
    with pytest.raises(assay.SourceError, match="cannot be decoded"):
        as_png(data, 96)
