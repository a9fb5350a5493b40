"""Data sets as a network takes them: the order and the ids of the root, whatever wraps it."""

import multiprocessing
import os
import time

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.utils import data as td

import assay
from assay.sources import loading
from assay.sources.examples import Examples
from assay.sources.open_examples import open_examples

X = torch.arange(60, dtype=torch.float32).reshape(20, 3)
Y = torch.arange(20) % 3
ROOT = td.TensorDataset(X, Y)


class Numbers(td.Dataset):
    """Items as somebody writes them, one of which can be broken."""

    def __init__(self, broken: int | None = None, item=lambda k: (X[k], int(Y[k]))) -> None:
        self.broken, self.item = broken, item

    def __len__(self) -> int:
        return 20

    def __getitem__(self, k: int):
        if k == self.broken:
            raise RuntimeError("the disk is on fire")
        return self.item(k)


def whole(data, batch: int = 7, **options):
    """All inputs, labels and ids, some at a time."""
    found = open_examples(data, **options)
    assert isinstance(found, Examples)
    from dataclasses import replace

    blocks = list(replace(found, batch=batch).blocks())
    ids = pa.concat_arrays([block.ids for block in blocks]).to_pylist()
    return torch.cat([block.inputs for block in blocks]), np.concatenate([np.asarray(b.labels) for b in blocks]), ids


class Stream(td.IterableDataset):
    def __iter__(self):
        return iter([(X[0], 0)])


class Own(td.SequentialSampler):
    """Somebody's order."""


SHUFFLED = [4, 2, 19, 7, 0]
SAME = {
    "dataset": (lambda: ROOT, list(range(20)), None),
    "numbers": (lambda: Numbers(), list(range(20)), None),
    "subset": (lambda: td.Subset(ROOT, SHUFFLED), SHUFFLED, SHUFFLED),
    "subset of subset": (lambda: td.Subset(td.Subset(ROOT, SHUFFLED), [3, 1]), [7, 2], [7, 2]),
    "random split": (lambda: td.random_split(ROOT, [15, 5], torch.Generator().manual_seed(0))[1], None, None),
    "concatenated": (
        lambda: td.ConcatDataset([td.Subset(ROOT, [5, 3]), ROOT]),
        [5, 3, *range(20)],
        ["0:5", "0:3", *(f"1:{k}" for k in range(20))],
    ),
    "loader": (lambda: td.DataLoader(ROOT, batch_size=6), list(range(20)), None),
    "shuffling loader": (lambda: td.DataLoader(ROOT, batch_size=6, shuffle=True), list(range(20)), None),
    "dropping loader": (lambda: td.DataLoader(ROOT, batch_size=6, drop_last=True), list(range(20)), None),
    "loader with workers": (lambda: td.DataLoader(Numbers(), batch_size=6, num_workers=2), list(range(20)), None),
    "loader of a subset": (
        lambda: td.DataLoader(ROOT, batch_size=6, sampler=td.SubsetRandomSampler([8, 2, 5])),
        [2, 5, 8],
        [2, 5, 8],
    ),
    "loader of batches of a subset": (
        lambda: td.DataLoader(ROOT, batch_sampler=td.BatchSampler(td.SubsetRandomSampler([8, 2, 5]), 2, True)),
        [2, 5, 8],
        [2, 5, 8],
    ),
    "arrays": (lambda: (X.numpy(), Y.numpy()), list(range(20)), None),
    "arrays with ids": (lambda: (X, Y, [f"s{k}" for k in range(20)]), list(range(20)), [f"s{k}" for k in range(20)]),
}


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_the_order_and_the_ids_are_the_roots(kind, batch):
    make, rows, ids = SAME[kind]
    data = make()
    rows = list(data.indices) if rows is None else rows
    inputs, labels, found = whole(data, batch)
    assert torch.equal(inputs, X[rows])
    assert labels.tolist() == Y[rows].tolist()
    assert found == (ids or rows)


def test_a_loaders_batch_size_and_collate_are_taken():
    def doubled(items):
        return torch.stack([2 * x for x, _ in items]), torch.tensor([y for _, y in items])

    found = open_examples(td.DataLoader(Numbers(), batch_size=6, collate_fn=doubled, shuffle=True))
    block = next(found.blocks())
    assert found.batch == 6
    assert torch.equal(block.inputs, 2 * X[:6])


def test_a_range_of_blocks_is_the_same_range():
    found = open_examples(td.DataLoader(ROOT, batch_size=6))
    parts = list(found.blocks(6, 15))
    assert [len(part.ids) for part in parts] == [6, 3]
    assert torch.equal(torch.cat([part.inputs for part in parts]), X[6:15])


REFUSED = {
    "iterable": (lambda: Stream(), "a Stream has no order to come back to"),
    "loader of a stream": (lambda: td.DataLoader(Stream()), "no order to come"),
    "weighted loader": (
        lambda: td.DataLoader(ROOT, sampler=td.WeightedRandomSampler([1.0] * 20, 20)),
        "the loader's WeightedRandomSampler cannot be put back",
    ),
    "loader with replacement": (
        lambda: td.DataLoader(ROOT, sampler=td.RandomSampler(ROOT, replacement=True)),
        "with replacement",
    ),
    "loader of batches": (lambda: td.DataLoader(ROOT, batch_size=None), "batch_size=None: its items are batches"),
    "batch sampler over some": (
        lambda: td.DataLoader(ROOT, batch_sampler=td.BatchSampler(td.WeightedRandomSampler([1.0] * 20, 20), 5, False)),
        "WeightedRandomSampler cannot be put back",
    ),
    "own batch sampler": (
        lambda: td.DataLoader(ROOT, batch_sampler=[[0, 1], [5, 3]]),
        "the loader's list cannot be put back",
    ),
    "sampler over some": (
        lambda: td.DataLoader(ROOT, sampler=td.SequentialSampler(range(5))),
        "SequentialSampler cannot be put back",
    ),
    "own sampler": (lambda: td.DataLoader(ROOT, sampler=Own(ROOT)), "the loader's Own cannot be put back"),
    "several": (lambda: {"train": ROOT}, r"several data sets \('train'\); give one, e.g. data\['train'\]"),
    "empty": (lambda: td.Subset(ROOT, []), "the Subset is empty"),
    "no data set": (lambda: 7, "a int has no order"),
    "rows": (lambda: (X, Y[:5]), "20 rows of inputs, but 5 labels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_order_is_refused(case):
    make, message = REFUSED[case]
    with pytest.raises(assay.AssayError, match=message):
        open_examples(make())


BROKEN = {
    "raises": (lambda: Numbers(13), r"sample 13 \(item 13 of the Numbers\) raised RuntimeError: the disk is on fire"),
    "raises in a worker": (lambda: td.DataLoader(Numbers(13), batch_size=4, num_workers=1), "sample 13 .* on fire"),
    "raises in a subset": (lambda: td.Subset(Numbers(13), [5, 13]), r"sample 13 \(item 1 of the Subset\) raised"),
    "ragged": (lambda: Numbers(item=lambda k: (torch.ones(3 + k % 2), 0)), "cannot be put into one batch"),
    "alone": (lambda: Numbers(item=lambda k: X[k]), r"an item of the Numbers is a Tensor; give \(input, label\)"),
    "no label": (lambda: Numbers(item=lambda k: {"x": X[k], "z": 1}), r"which entry is the label\? .* 'x', 'z'"),
    "no input": (lambda: Numbers(item=lambda k: {"x": "text", "y": 1}), "no entry beside the label 'y' is an image"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_item_is_named(case):
    make, message = BROKEN[case]
    with pytest.raises(assay.SourceError, match=message):
        list(open_examples(make()).blocks())


class Dies(Numbers):
    """Item 9 takes its process along, once all before it is read."""

    def __getitem__(self, k: int):
        if k == 9:
            time.sleep(0.5)
            os._exit(1)
        return super().__getitem__(k)


DEAD = r"a process that loads samples died.*num_workers=0"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loading_process_that_dies_is_said(workers):
    with pytest.raises(assay.SourceError, match=DEAD):
        list(open_examples(td.DataLoader(Dies(), batch_size=4, num_workers=workers)).blocks())


class Gone(Numbers):
    """At item 9 its process closes all it has open, leaves a mark, and ends half a second later."""

    def __init__(self, mark):
        super().__init__()
        self.mark = mark

    def __getitem__(self, k: int):
        if k == 9:
            time.sleep(0.2)  # the second batch is on its way
            os.closerange(3, 1000)
            self.mark.touch()
            time.sleep(0.5)
            os._exit(1)
        return super().__getitem__(k)


def test_a_loading_process_that_is_gone_before_it_has_ended_is_told_of_once(tmp_path):
    blocks = open_examples(td.DataLoader(Gone(tmp_path / "gone"), batch_size=4, num_workers=1)).blocks()
    next(blocks)
    while not (tmp_path / "gone").exists():
        time.sleep(0.01)
    with pytest.raises(assay.SourceError, match=DEAD) as told:
        list(blocks)
    time.sleep(0.75)  # torch would raise here, when a signal says that the process has ended
    del told  # held until now, since torch is told nothing once the loader is gone


def test_a_child_that_ended_well_is_not_the_one_that_died(monkeypatch):
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=ends, args=case) for case in ((0.0, 0), (0.4, 1))]
    for child in children:
        child.start()
    assert loading._see_off(children)
    assert [child.exitcode for child in children] == [0, 1]
    monkeypatch.setattr(loading, "DEATH", 0.1)
    alive = fork.Process(target=ends, args=(0.5, 0))
    alive.start()
    assert not loading._see_off([alive])  # its connection was lost for another reason
    assert not loading._see_off([])
    alive.join()


def ends(seconds: float, code: int) -> None:
    time.sleep(seconds)
    os._exit(code)


def test_named_entries_become_named_inputs():
    both = Numbers(item=lambda k: {"ids": X[k].long(), "mask": X[k] > 5, "label": int(Y[k]), "text": "a"})
    block = next(open_examples(both).blocks())
    assert isinstance(block.inputs, dict)
    assert sorted(block.inputs) == ["ids", "mask"]
    assert next(open_examples(both, inputs=["ids"]).blocks()).inputs.dtype == torch.int64
    with pytest.raises(assay.SourceError, match="no entry 'pixels'"):
        list(open_examples(both, inputs=["pixels"]).blocks())


def test_several_inputs_stay_several():
    two = Numbers(item=lambda k: (X[k], X[k] + 1, int(Y[k])))
    inputs = next(open_examples(two).blocks()).inputs
    assert isinstance(inputs, tuple)
    assert len(inputs) == 2


def test_pictures_become_tensors():
    grey = Numbers(item=lambda k: (Image.new("L", (4, 2), 255), 0))
    assert next(open_examples(grey).blocks()).inputs.shape == (20, 1, 2, 4)
    colour = Numbers(item=lambda k: {"image": Image.new("P", (4, 2)), "label": 0})
    assert next(open_examples(colour).blocks()).inputs.shape == (20, 3, 2, 4)


class Augmented(Numbers):
    transform = "RandomCrop()"

    def __getitem__(self, k: int):
        return X[k] + torch.rand(3) * (k > 5), 0


def test_augmentation_is_seen_and_refused():
    message = r"sample 6 .* differs when it is read twice: augmentation is on.*its \.transform is RandomCrop"
    with pytest.raises(assay.SourceError, match=message):
        open_examples(Augmented()).check_unchanging()
    open_examples(ROOT).check_unchanging()


def by_length(items):
    """Sorts a batch, as collate functions of sequences do."""
    return td.default_collate(sorted(items, key=lambda item: -float(item[0][0])))


def mixed(items):
    """Mixup: each sample with its neighbour."""
    x, y = td.default_collate(items)
    return 0.7 * x + 0.3 * x.roll(1, 0), y


@pytest.mark.parametrize("collate", [by_length, mixed])
def test_a_collate_function_that_orders_or_mixes_is_refused(collate):
    with pytest.raises(assay.SourceError, match="is another in a batch: the collate_fn orders or mixes"):
        open_examples(td.DataLoader(ROOT, batch_size=6, collate_fn=collate)).check_unchanging()


def test_a_collate_function_that_drops_is_refused():
    loader = td.DataLoader(ROOT, batch_size=6, collate_fn=lambda items: td.default_collate(items[1:]))
    with pytest.raises(assay.SourceError, match=r"6 items, from sample 0 .* came back with \[5\]"):
        list(open_examples(loader).blocks())


def test_loading_leaves_torchs_random_numbers_alone():
    state = torch.get_rng_state()
    list(open_examples(ROOT).blocks())
    assert torch.equal(torch.get_rng_state(), state)


def test_names_that_no_longer_belong_to_the_codes_are_not_taken():
    class Shifted(Numbers):
        classes = ("N/A", "a", "b", "c")
        targets = (Y + 1).tolist()
        target_transform = staticmethod(lambda y: y - 1)

    found = open_examples(Shifted())
    assert found.classes is None
    assert found.known_labels() is None

    class Twins(Numbers):
        classes = ("crane", "crane", "ox")

    assert open_examples(Twins()).classes is None


def test_weights_and_ids_go_along():
    found = open_examples(ROOT, ids=[f"i{k}" for k in range(20)], weights=np.arange(20.0))
    assert isinstance(found, Examples)
    parts = list(found.blocks())
    assert parts[0].ids.to_pylist()[3] == "i3"
    assert parts[0].weights is not None
    assert parts[0].weights.tolist() == list(range(20))
    with pytest.raises(assay.ShapeError, match="20 samples, but 3 weights"):
        open_examples(ROOT, weights=[1.0, 2.0, 3.0])


def hugging_face(**columns):
    names = datasets.ClassLabel(names=["cat", "ant", "bee"])
    features = datasets.Features({"image": datasets.Image(), "label": names, **columns})
    pictures = [Image.fromarray(np.full((4, 4, 3), k, np.uint8)) for k in range(20)]
    rows = {"image": pictures, "label": Y.tolist(), **{name: ["x"] * 20 for name in columns}}
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_hugging_face_data_set_brings_its_class_names():
    found = open_examples(hugging_face(caption=datasets.Value("string")))
    assert found.classes == ("cat", "ant", "bee")
    block = next(found.blocks())
    assert block.inputs.shape == (20, 3, 4, 4)
    assert torch.equal(block.inputs[7], torch.full((3, 4, 4), 7 / 255))
    assert block.labels.tolist() == Y.tolist()
    part = hugging_face().select([5, 2])
    assert next(open_examples(part).blocks()).labels.tolist() == [2, 2]
    split = datasets.DatasetDict(train=part)
    with pytest.raises(assay.SourceError, match="several data sets"):
        open_examples(split)


def test_a_hugging_face_transform_is_applied():
    def to_pixels(rows):
        return {"pixel_values": [torch.ones(3, 2, 2) * k for k in range(len(rows["label"]))], "label": rows["label"]}

    found = open_examples(hugging_face().with_transform(to_pixels))
    assert next(found.blocks()).inputs.shape == (20, 3, 2, 2)


def test_columns_of_a_hugging_face_data_set_are_ids_and_weights():
    columns = {"x": X.tolist(), "y": Y.tolist(), "key": [f"k{k}" for k in range(20)], "w": [0.5] * 20}
    rows = datasets.Dataset.from_dict(columns).with_format("torch", columns=["x", "y"], output_all_columns=True)
    block = next(open_examples(rows, inputs=["x"], ids="key", weights="w").blocks())
    assert block.ids.to_pylist()[:2] == ["k0", "k1"]
    assert block.weights is not None
    assert block.weights.tolist() == [0.5] * 20
    with pytest.raises(assay.SourceError, match="no column 'nowhere'"):
        open_examples(rows, ids="nowhere")
    plain = datasets.Dataset.from_dict(columns)
    with pytest.raises(assay.SourceError, match="entry 'x' of the items makes no tensor"):
        next(open_examples(plain, inputs=["x"]).blocks())


def test_numeric_hugging_face_columns_are_inputs():
    rows = datasets.Dataset.from_dict({"x": X.tolist(), "target": Y.tolist()}).with_format("torch")
    block = next(open_examples(rows).blocks())
    assert torch.equal(block.inputs, X)
    assert block.labels.tolist() == Y.tolist()


def test_a_target_that_is_nan_is_no_other_sample():
    targets = Y.double()
    targets[4] = torch.nan
    open_examples((X, targets)).check_unchanging()
    open_examples(td.TensorDataset(X, targets)).check_unchanging()
