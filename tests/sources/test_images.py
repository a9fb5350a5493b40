"""A folder of images: class names from its folders, ids from its files, corrupt ones named or counted."""

import numpy as np
import pytest
import torch
from PIL import Image

import assay
from assay.sources.images import ImageFolder, image_tensor
from assay.sources.open_examples import open_examples


def folder(path, n: int = 6, size: int = 5):
    for k in range(n):
        file = path / ("cat" if k % 2 else "ant") / f"{k}.{'jpg' if k == 3 else 'png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size, size, 3), 40 * k, np.uint8)).save(file)
    return path


def test_classes_are_folders_and_ids_files(tmp_path):
    found = ImageFolder(folder(tmp_path))
    assert found.classes == ("ant", "cat")
    assert found.ids == ("ant/0.png", "ant/2.png", "ant/4.png", "cat/1.png", "cat/3.jpg", "cat/5.png")
    image, label = found[1]
    assert torch.equal(image, torch.full((3, 5, 5), 80 / 255))
    assert label == 0
    samples = open_examples(tmp_path)
    assert samples.classes == ("ant", "cat")
    assert samples.known_labels().tolist() == [0, 0, 0, 1, 1, 1]
    assert next(samples.blocks()).ids.to_pylist() == list(found.ids)


def test_a_transform_makes_the_input(tmp_path):
    found = ImageFolder(folder(tmp_path), transform=lambda image: image_tensor(image.resize((2, 2))))
    assert found[0][0].shape == (3, 2, 2)


def test_a_corrupt_image_is_named_or_left_out_and_counted(tmp_path):
    torn = folder(tmp_path) / "ant" / "2.png"
    torn.write_bytes(torn.read_bytes()[:40])
    found = ImageFolder(tmp_path)
    with pytest.raises(assay.SourceError, match=r'ant/2\.png cannot be decoded .* corrupt="skip"'):
        found[1]
    with pytest.raises(assay.SourceError, match=r"ant/2\.png cannot be decoded"):
        list(open_examples(tmp_path).blocks())
    with pytest.warns(assay.AssayWarning, match=r"1 of 6 images cannot be decoded and are left out, .*ant/2\.png"):
        kept = ImageFolder(tmp_path, corrupt="skip")
    assert len(kept) == 5
    assert kept.skipped == (torn,)
    assert "ant/2.png" not in kept.ids


def test_a_class_whose_images_are_all_corrupt_keeps_its_code(tmp_path):
    folder(tmp_path)
    broken = tmp_path / "bee" / "0.png"
    broken.parent.mkdir()
    broken.write_bytes(b"nothing")
    with pytest.warns(assay.AssayWarning, match="1 of 7 images"):
        found = ImageFolder(tmp_path, corrupt="skip")
    assert found.classes == ("ant", "bee", "cat")
    assert set(found.labels) == {0, 2}


def test_grey_images_of_sixteen_bits_keep_their_depth():
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = image_tensor(Image.fromarray(ramp))
    assert found.shape == (1, 256, 256)
    assert len(found.unique()) == 65536
    assert float(found.max()) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "nowhere", "is no folder of images"),
        (lambda path: path, "there are no images in"),
    ],
)
def test_folders_without_images_are_refused(tmp_path, make, message):
    with pytest.raises(assay.SourceError, match=message):
        ImageFolder(make(tmp_path))


def test_images_beside_the_class_folders_are_refused(tmp_path):
    folder(tmp_path)
    Image.new("L", (2, 2)).save(tmp_path / "loose.png")
    with pytest.raises(assay.SourceError, match=r"loose\.png lies beside the class folders"):
        ImageFolder(tmp_path)
    with pytest.raises(assay.SourceError, match="neither"):
        ImageFolder(tmp_path, corrupt="ignore")


def test_images_of_two_sizes_need_a_transform(tmp_path):
    folder(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "cat" / "9.png")
    with pytest.raises(assay.SourceError, match=r"cannot be put into one batch.*a transform that resizes"):
        list(open_examples(tmp_path).blocks())
