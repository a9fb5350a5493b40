"""A download from a real server that breaks off, changes the file, or knows no ranges: whole, or not there."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import assay
from assay.datasets.cifar10 import cifar10
from assay.datasets.download import download
from test_cifar10 import Told, at_most, check, parquet

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Site:
    """What the server gives, and what it was asked."""

    def __init__(self) -> None:
        self.content, self.tag = CONTENT, '"one"'
        self.stop_after: int | None = None  # bytes of an answer, after which the connection breaks
        self.ranges = True
        self.asked: list[str | None] = []
        self.address = ""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.asked.append(wanted)
            if self.path.startswith("/missing"):
                self.send_error(404)
                return
            start = 0
            if wanted and site.ranges and self.headers.get("If-Range") == site.tag:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(site.content):
                    self.send_error(416)
                    return
            body = site.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if site.tag:
                self.send_header("ETag", site.tag)
            self.end_headers()
            self.wfile.write(body[: site.stop_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_port}/data.bin"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def broken(site: Site, folder, size: int = 1_200_000) -> None:
    """A download that breaks off after so many bytes."""
    site.stop_after = size
    with pytest.raises(assay.SourceError, match="ended after 1,200,000 of 3,000,000 bytes; the same call goes on"):
        download(site.address, folder)
    site.stop_after = None
    assert not [path for path in folder.iterdir() if path.suffix == ".bin"]


def test_a_file_is_downloaded_once(tmp_path, site):
    told = Told()
    path = download(site.address, tmp_path / "new", progress=told)
    assert path.read_bytes() == CONTENT
    assert (told.stages, told.left) == (["download"], 0)
    assert download(site.address, tmp_path / "new") == path
    assert site.asked == [None]
    assert list((tmp_path / "new").iterdir()) == [path]


def test_an_interrupted_download_goes_on(tmp_path, site):
    broken(site, tmp_path)
    assert download(site.address, tmp_path).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=1200000-"]


def test_twice_interrupted(tmp_path, site):
    broken(site, tmp_path)
    site.stop_after = 300_000
    with pytest.raises(assay.SourceError, match="ended after 1,500,000 of 3,000,000"):
        download(site.address, tmp_path)
    site.stop_after = None
    assert download(site.address, tmp_path).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=1200000-", "bytes=1500000-"]


@pytest.mark.parametrize("how", ["changed", "no ranges", "no version"])
def test_where_the_rest_cannot_be_had_it_starts_again(tmp_path, site, how):
    if how == "no version":
        site.tag = ""
    broken(site, tmp_path)
    if how == "changed":
        site.content, site.tag = CONTENT[::-1], '"two"'
    site.ranges = how != "no ranges"
    assert download(site.address, tmp_path).read_bytes() == site.content
    assert len(site.asked) == 2


def test_a_beginning_longer_than_the_file_is_dropped(tmp_path, site):
    broken(site, tmp_path)
    site.content = CONTENT[:1000]
    assert download(site.address, tmp_path).read_bytes() == site.content
    assert site.asked == [None, "bytes=1200000-", None]


def test_a_full_disk_keeps_what_has_come(tmp_path, site):
    with at_most(2_000_000), pytest.raises(assay.OutputError, match="cannot be written"):
        download(site.address, tmp_path)
    assert download(site.address, tmp_path).read_bytes() == CONTENT
    assert site.asked[1].startswith("bytes=")


def test_what_is_not_there_is_said(tmp_path, site):
    with pytest.raises(assay.SourceError, match="answers 404"):
        download(site.address.replace("data", "missing"), tmp_path)
    with pytest.raises(assay.SourceError, match="cannot be reached"):
        download("http://127.0.0.1:9/data.bin", tmp_path)
    with pytest.raises(assay.SourceError, match="cannot be reached"):
        download((tmp_path / "none.bin").as_uri(), tmp_path)
    for address in ("ftp://host/file", "data.bin", "http://host/"):
        with pytest.raises(assay.SourceError, match="is no address of a file"):
            download(address, tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_addresses_with_one_name_are_two_files(tmp_path, site):
    first = download(site.address, tmp_path)
    site.content = b"other"
    assert download(site.address.replace("/data", "/other/data"), tmp_path) != first


def test_cifar10_from_a_url(tmp_path, site, monkeypatch):
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    site.content = parquet(tmp_path).read_bytes()
    monkeypatch.setenv("CIFAR10_URL", site.address.replace("data.bin", "cifar10.parquet?raw=1"))
    for _ in range(2):
        check(cifar10(cache=tmp_path / "cache"))
    assert len(site.asked) == 1
