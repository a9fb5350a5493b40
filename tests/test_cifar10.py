"""CIFAR-10 in every form it comes in: the same images from each, decoded once, and nothing wrong gets through."""

import io
import os
import pickle
import resource
import shutil
import struct
import tarfile
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import assay
from assay.datasets.cifar10 import CLASSES, Cifar10, cifar10
from assay.datasets.pickled import read_pickled

PLACES = [Path(os.environ["ASSAY_DATA"])] if "ASSAY_DATA" in os.environ else []
PLACES.append(Path(__file__).parent.parent.parent / "shared" / "data")
REAL = next((place / "cifar10.parquet" for place in PLACES if (place / "cifar10.parquet").is_file()), None)

TRAIN, TEST = 10, 4
IMAGES = np.random.default_rng(0).integers(0, 256, (TRAIN + TEST, 3, 32, 32), dtype=np.uint8)
LABELS = np.array([6, 9, 9, 4, 1, 1, 2, 7, 8, 3, 3, 8, 8, 0])


@pytest.fixture(autouse=True)
def _no_place(monkeypatch):
    """What this machine has set makes no difference."""
    for name in ("ASSAY_DATA", "CIFAR10_URL"):
        monkeypatch.delenv(name, raising=False)


def encoded(image: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, form)
    return file.getvalue()


def table(**columns) -> pa.Table:
    """The images in a row order of its own, unless columns say otherwise."""
    rows = np.random.default_rng(1).permutation(len(LABELS))
    index = np.concatenate([np.arange(TRAIN), np.arange(TEST)])
    split = np.array(["train"] * TRAIN + ["test"] * TEST)
    own = {
        "image": [encoded(IMAGES[row]) for row in rows],
        "label": LABELS[rows].astype(np.uint8),
        "split": pa.array(split[rows].tolist()).dictionary_encode(),
        "index": index[rows].astype(np.int32),
    }
    return pa.table({name: value for name, value in (own | columns).items() if value is not None})


def parquet(folder: Path, **columns) -> Path:
    pq.write_table(table(**columns), folder / "cifar10.parquet", row_group_size=5)
    return folder / "cifar10.parquet"


def python2(content: dict) -> bytes:
    """The pickle of protocol 2 that Python 2 wrote of a batch: byte strings, and NumPy's old module path."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    data = content["data"]
    raw = data.tobytes()
    kind = b"cnumpy\ndtype\nq\x07U\x02u1K\x00K\x01\x87Rq\x08(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85U\x01b\x87Rq\x06"
    shape = b"(K\x01M" + struct.pack("<H", data.shape[0]) + b"M" + struct.pack("<H", data.shape[1]) + b"\x86"
    labels = b"".join(b"K" + bytes([label]) for label in content["labels"])
    return (
        b"\x80\x02}q\x01(" + text(b"batch_label") + text(b"training batch 1 of 5")
        + text(b"labels") + b"]q\x02(" + labels + b"e"
        + text(b"data") + array + shape + kind + b"\x89" + text(raw) + b"tbu."
    )  # fmt: skip


def batches(folder: Path, write=python2, **changed) -> Path:
    """`cifar-10-batches-py` of two training images a batch; `changed` replaces a file by these bytes, or drops it."""
    folder = folder / "cifar-10-batches-py"
    folder.mkdir(exist_ok=True)
    bounds = [*range(0, TRAIN + 1, 2), TRAIN + TEST]
    for name, start, stop in zip(
        [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"], bounds[:-1], bounds[1:], strict=True
    ):
        content = {"labels": LABELS[start:stop].tolist(), "data": IMAGES[start:stop].reshape(-1, 3072)}
        raw = changed.get(name, write(content))
        if raw is not None:
            (folder / name).write_bytes(raw)
    return folder


def folders(folder: Path, form: str = "png") -> Path:
    """Pictures whose names are in the order of the rows."""
    for row, label in enumerate(LABELS):
        place = folder / ("train" if row < TRAIN else "test") / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row:04d}.{form}").write_bytes(encoded(IMAGES[row]))
    return folder


class Told:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.left = 0

    def start(self, stage: str, total: int) -> None:
        self.stages.append(stage)
        self.left = total

    def advance(self, n: int = 1) -> None:
        self.left -= n

    def done(self) -> None:
        pass


def check(data: Cifar10) -> None:
    np.testing.assert_array_equal(data.images, IMAGES)
    np.testing.assert_array_equal(data.labels, LABELS)
    assert (data.images.dtype, data.labels.dtype) == (np.uint8, np.int64)
    assert (data.train, data.test, len(data)) == (slice(0, TRAIN), slice(TRAIN, TRAIN + TEST), TRAIN + TEST)


def test_parquet_rows_take_their_original_order(tmp_path):
    check(cifar10(parquet(tmp_path), cache=tmp_path / "cache"))


def numpy_bytes(protocol: int):
    return lambda content: pickle.dumps({k.encode(): v for k, v in content.items()}, protocol=protocol)


@pytest.mark.parametrize(
    "write", [python2, *map(numpy_bytes, range(6))], ids=["python2", *(f"protocol{k}" for k in range(6))]
)
def test_original_batches(tmp_path, write):
    folder = batches(tmp_path, write)
    check(cifar10(folder, cache=tmp_path / "cache"))
    check(cifar10(tmp_path, cache=tmp_path / "again"))  # the folder that holds it


def test_the_original_archive(tmp_path):
    batches(tmp_path)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    check(cifar10(tmp_path / "cifar-10-python.tar.gz", cache=tmp_path / "cache"))


def test_arrays_in_columns_and_labels_as_an_array(tmp_path):
    def write(content):
        return pickle.dumps({"labels": np.array(content["labels"]), "data": np.asfortranarray(content["data"])})

    check(cifar10(batches(tmp_path, write), cache=tmp_path / "cache"))


def test_folders_of_pictures(tmp_path):
    data = cifar10(folders(tmp_path), cache=tmp_path / "cache")
    order = [*sorted(range(TRAIN), key=lambda k: LABELS[k]), *sorted(range(TRAIN, 14), key=lambda k: LABELS[k])]
    np.testing.assert_array_equal(data.labels, LABELS[order])
    np.testing.assert_array_equal(data.images, IMAGES[order])
    assert data.train == slice(0, TRAIN)


@pytest.mark.skipif(REAL is None, reason="cifar10.parquet is neither in ASSAY_DATA nor in ../shared/data")
def test_the_first_rows_of_the_real_file(tmp_path):
    assert REAL is not None
    whole = pq.read_table(REAL)
    rows = [*range(64), *range(50_000, 50_032)]
    pq.write_table(whole.take(rows), tmp_path / "cifar10.parquet")
    data = cifar10(tmp_path, cache=tmp_path / "cache")
    assert whole.num_rows == 60_000
    assert [CLASSES[c] for c in data.labels[:5]] == ["frog", "truck", "truck", "deer", "automobile"]
    assert [CLASSES[c] for c in data.labels[data.test][:4]] == ["cat", "ship", "ship", "airplane"]
    np.testing.assert_allclose(data.images.mean((0, 2, 3)) / 255, [0.49, 0.48, 0.45], atol=0.05)


def test_images_are_decoded_once_for_each_content(tmp_path):
    told, cache = Told(), tmp_path / "cache"
    cifar10(parquet(tmp_path), cache=cache, progress=told)
    assert told.stages == ["decode CIFAR-10"]
    assert told.left == 0
    again = Told()
    check(cifar10(tmp_path, cache=cache, progress=again))
    assert again.stages == []
    changed = cifar10(parquet(tmp_path, label=(np.zeros(14, np.uint8))), cache=cache, progress=again)
    assert again.stages == ["decode CIFAR-10"]
    assert not changed.labels.any()


def test_a_torn_cache_is_made_again(tmp_path):
    cache = tmp_path / "cache"
    source = parquet(tmp_path)
    cifar10(source, cache=cache)
    images, rows = sorted(cache.iterdir(), key=lambda path: len(path.name))
    with open(images, "r+b") as file:
        file.truncate(5000)
    check(cifar10(source, cache=cache))
    rows.unlink()  # killed between the two files
    images.write_bytes(b"")
    check(cifar10(source, cache=cache))
    assert len(list(cache.iterdir())) == 2


def test_images_are_a_map_that_keeps_what_is_written_to_itself(tmp_path):
    source = parquet(tmp_path)
    data = cifar10(source, cache=tmp_path / "cache")
    assert isinstance(data.images, np.memmap)
    torch.from_numpy(data.images)[0] = 0  # would warn of an array that cannot be written
    assert not data.images[0].any()
    check(cifar10(source, cache=tmp_path / "cache"))


def test_by_default_the_data_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with pytest.raises(
        assay.SourceError, match=r"CIFAR-10 is not here; download https://www\.cs\.toronto.*CIFAR10_URL="
    ):
        cifar10()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "empty"))
    with pytest.raises(assay.SourceError, match=r"\$ASSAY_DATA .*empty\) holds no CIFAR-10"):
        cifar10()
    batches(tmp_path)
    with tarfile.open(tmp_path / "some.tgz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setenv("CIFAR10_URL", (tmp_path / "some.tgz").as_uri())
    check(cifar10())
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CIFAR10_URL", "http://127.0.0.1:9/never-asked.parquet")
    parquet(tmp_path / "data")
    check(cifar10())
    assert (tmp_path / "home" / "assay").is_dir()


def place_of(column: str, value: object) -> int:
    return table()[column].to_pylist().index(value)


def replaced(column: str, row: int, value: object) -> dict[str, list[object]]:
    values = table()[column].to_pylist()
    return {column: [*values[:row], value, *values[row + 1 :]]}


JPEG = encoded(IMAGES[0], "JPEG")
GREY = io.BytesIO()
Image.new("L", (32, 32)).save(GREY, "PNG")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (replaced("label", 3, 10), r"cifar10\.parquet, row 3: the label is 10; CIFAR-10 has classes 0–9"),
        (replaced("label", 2, None), r"row 2: there is no label"),
        (replaced("split", 4, "valid"), r"row 4: the split 'valid' is neither train nor test"),
        ({"split": ["train"] * 14, "index": np.arange(14)}, r"no images of the split 'test'"),
        ({"split": ["test"] * 14, "index": np.arange(14)}, r"no images of the split 'train'"),
        ({"index": np.zeros(14, np.int32)}, r"row \d+: index 0 of train comes twice"),
        ({"index": np.arange(14)}, r"row \d+: index \d+ of train comes twice or is outside 0 to 9"),
        ({"index": None}, r"has no column 'index'"),
        (replaced("image", 5, JPEG[: len(JPEG) // 2]), r"cifar10\.parquet, row 5: the image is damaged"),
        (replaced("image", 6, b"no image"), r"row 6: the image is damaged"),
        (replaced("image", 7, None), r"row 7: there is no image"),
        (replaced("image", 8, encoded(np.zeros((3, 31, 32), np.uint8))), r"row 8: the image is \(32, 31\) RGB"),
        (replaced("image", 9, GREY.getvalue()), r"row 9: the image is \(32, 32\) L"),
    ],
)
def test_a_wrong_table_is_refused_and_leaves_nothing(tmp_path, columns, message):
    source, cache = parquet(tmp_path, **columns), tmp_path / "cache"
    with pytest.raises(assay.SourceError, match=message):
        cifar10(source, cache=cache)
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize("left", [0, 100, -2000, -4])
def test_a_cut_file_is_refused(tmp_path, left):
    source = parquet(tmp_path)
    source.write_bytes(source.read_bytes()[:left])
    with pytest.raises(assay.SourceError, match=r"cifar10\.parquet cannot be read as Parquet"):
        cifar10(source, cache=tmp_path / "cache")


def test_a_damaged_page_is_refused(tmp_path):
    source = parquet(tmp_path)
    at = pq.ParquetFile(source).metadata.row_group(1).column(0).dictionary_page_offset
    raw = bytearray(source.read_bytes())
    raw[at : at + 40] = bytes(40)
    source.write_bytes(raw)
    with pytest.raises(assay.SourceError, match=r"cifar10\.parquet, after row \d+"):
        cifar10(source, cache=tmp_path / "cache")


DATA = IMAGES[:2].reshape(2, 3072)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (None, r"data_batch_3 cannot be read: .*get the six batches again"),
        (python2({"labels": [1, 10], "data": DATA}), r"data_batch_3, row 1: the label is 10"),
        (python2({"labels": [1], "data": DATA}), "data_batch_3 has 2 images, but 1 labels"),
        (python2({"labels": [1, 2], "data": DATA[:, :3000]}), r"data_batch_3 holds uint8 \[2, 3000\]"),
        (pickle.dumps({"labels": [1, 2], "data": DATA.astype(float)}), r"data_batch_3 holds float64 \[2, 3072\]"),
        (pickle.dumps({"fine_labels": [1, 2], "data": DATA}), "data_batch_3 has no 'labels'"),
        (pickle.dumps({"labels": ["cat", "dog"], "data": DATA}), "they are whole numbers 0–9"),
        (pickle.dumps([1, 2]), "data_batch_3 is damaged, or no pickled batch"),
        (python2({"labels": [1, 2], "data": DATA})[:-500], "data_batch_3 is damaged, or no pickled batch"),
        (pickle.dumps({"data": np.array([object()])}), "arrays of type 'O8' are not read"),
        (b"", "data_batch_3 is damaged, or no pickled batch"),
    ],
)
def test_a_wrong_batch_is_refused(tmp_path, batch, message):
    with pytest.raises(assay.SourceError, match=message):
        cifar10(batches(tmp_path, data_batch_3=batch), cache=tmp_path / "cache")


class Evil:
    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_runs_nothing(tmp_path, protocol):
    marker = tmp_path / "ran"
    for call, name in [
        ((os.system, (f"touch {marker}",)), r"(posix|os)\.system"),
        ((exec, (f"open({str(marker)!r}, 'w')",)), r"\w*builtin\w*\.exec"),
        ((os.mkdir, (str(marker),)), r"(posix|os)\.mkdir"),
    ]:
        raw = pickle.dumps({"labels": [1, 2], "data": DATA, "more": Evil(*call)}, protocol=protocol)
        with pytest.raises(assay.SourceError, match=rf"data_batch_2 asks for {name}.*it was not called"):
            cifar10(batches(tmp_path, data_batch_2=raw), cache=tmp_path / "cache")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"(S'touch ran'\nios\nsystem\n.", "holds the pickle opcode INST"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "holds the pickle opcode NEWOBJ"),
        (b"Pname\n.", "holds the pickle opcode PERSID"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "calls None"),
        (b"\x80\x02}K\x01)R.", "calls 1"),
        (b"\x80\x02}}b.", "changes a dict"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0ecore.os.system\x93.", r"asks for numpy\.core\.os\.system"),
    ],
)
def test_what_no_array_needs_is_not_read(raw, message):
    with pytest.raises(assay.SourceError, match=f"a batch {message}"):
        read_pickled(raw, "a batch")


@pytest.mark.filterwarnings("ignore:invalid escape:DeprecationWarning")
def test_a_damaged_pickle_is_an_error_of_ours_or_read():
    """Bytes changed, and bytes cut, at 600 places: no other exception, nothing but data."""
    rng = np.random.default_rng(0)
    small = np.arange(12, dtype=np.uint8).reshape(2, 6)
    raws = [python2({"labels": [1, 2], "data": small})]
    raws += [pickle.dumps({"labels": [1, 2], "data": small}, protocol=k) for k in (2, 4, 5)]
    refused = 0
    for k in range(600):
        raw = bytearray(raws[k % 4])
        at = rng.integers(len(raw))
        if k % 3:
            raw[at] = rng.integers(256)
        else:
            del raw[at:]
        try:
            assert isinstance(read_pickled(bytes(raw), "a batch"), dict)
        except assay.SourceError:
            refused += 1
    assert refused > 300


def test_a_cut_archive_is_refused(tmp_path):
    batches(tmp_path)
    source = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(source, "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    whole = source.read_bytes()
    for left in (0, 30, len(whole) // 2):
        source.write_bytes(whole[:left])
        with pytest.raises(assay.SourceError, match=r"cifar-10-python\.tar\.gz is damaged or ends early"):
            cifar10(source, cache=tmp_path / "cache")
    with tarfile.open(source, "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py" / "test_batch", "test_batch")
    with pytest.raises(assay.SourceError, match="holds no data_batch_1"):
        cifar10(source, cache=tmp_path / "cache")


def test_wrong_folders_are_refused(tmp_path):
    root = folders(tmp_path / "pictures")
    frog = next((root / "train" / "frog").iterdir())
    frog.write_bytes(frog.read_bytes()[:60])
    with pytest.raises(assay.SourceError, match=rf"{frog.name}, row \d: the image is damaged"):
        cifar10(root, cache=tmp_path / "cache")
    (root / "train" / "frog").rename(root / "train" / "toad")
    with pytest.raises(assay.SourceError, match="toad is no class of CIFAR-10"):
        cifar10(root, cache=tmp_path / "cache")
    (root / "train" / "toad").rename(root / "train" / "10")
    with pytest.raises(assay.SourceError, match="10 is no class of CIFAR-10"):
        cifar10(root, cache=tmp_path / "cache")
    shutil.rmtree(root / "train" / "10")
    shutil.rmtree(root / "test")
    with pytest.raises(assay.SourceError, match="no images of the split 'test'"):
        cifar10(root, cache=tmp_path / "cache")


def test_another_path_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    for path, what in [("nowhere", "is not there"), ("notes.txt", "holds no CIFAR-10"), ("", "holds no CIFAR-10")]:
        with pytest.raises(assay.SourceError, match=rf"{what}; give cifar10\.parquet"):
            cifar10(tmp_path / path, cache=tmp_path / "cache")


def test_a_disk_without_room_is_seen_before(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 40_000, 40_000))
    with pytest.raises(assay.OutputError, match=r"cache needs 43,\d+ bytes, but has 40,000 free"):
        cifar10(parquet(tmp_path), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@contextmanager
def at_most(size: int):
    """No file of this process grows beyond this: what a full disk does to a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path):
    source, cache = parquet(tmp_path), tmp_path / "cache"
    with at_most(20_000), pytest.raises(assay.OutputError, match="free some space"):
        cifar10(source, cache=cache)
    assert not list(cache.iterdir())
    check(cifar10(source, cache=cache))


def test_a_cache_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(assay.OutputError, match="cache cannot be written"):
        cifar10(parquet(tmp_path), cache=tmp_path / "cache")
