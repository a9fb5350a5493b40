"""`assay demo cifar10`: mislabeled images found by a network that was trained on them, in a few minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .shell import progress
from .summary import found_of, print_summary

if TYPE_CHECKING:
    import numpy as np

    from ..datasets.cifar10 import Cifar10

IMAGES, EPOCHS, DEPTH = 4_000, 8, 8


def demo(out: Path, path: Path | None, flips: float, seed: int, *, as_json: bool) -> None:
    """Flips labels of some images, trains a small residual network on them, audits it, and writes the report."""
    import numpy as np
    import torch
    from torch import nn

    from ..auditing.run import audit
    from ..datasets.cifar10 import cifar10
    from ..datasets.noise import flip_uniformly
    from ..engine import stage
    from ..features.keep import Encoding
    from ..models.augment import Normalise, crop_and_flip, normalise
    from ..models.recipes import one_cycle_recipe
    from ..models.resnet import resnet
    from ..models.training import train
    from ..report import write_report

    told = progress()
    data = cifar10(path, progress=told)
    rows = np.random.default_rng(seed).permutation(data.train_rows)[:IMAGES]
    labels, flipped = flip_uniformly(data.labels[rows], flips, seed=seed)
    settings = one_cycle_recipe(EPOCHS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = resnet(DEPTH)
    images = torch.from_numpy(data.images)[torch.from_numpy(rows)]
    with stage(told, "train", EPOCHS) as advance:
        train(
            net, images, torch.from_numpy(labels), settings, augment=crop_and_flip(), prepare=normalise,
            folder=out / f"network-{flips:g}-{seed}", advance=advance,
        )  # fmt: skip
    result = audit(
        Labelled(data, rows, labels), model=nn.Sequential(Normalise(), net), out=out / "audit", overwrite=True,
        seed=seed, progress=told, encoding=Encoding(mirror=True),
    )  # fmt: skip
    found = found_of(result, flipped.tolist())
    print_summary(result, as_json=as_json, found=found, page=write_report(result))


@dataclass(frozen=True)
class Labelled:
    """Images of CIFAR-10 as bytes with labels of their own; ids are their rows in the data set."""

    data: Cifar10
    rows: np.ndarray
    labels: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    @property
    def ids(self) -> list[int]:
        return self.rows.tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> tuple[Any, int]:
        import torch

        return torch.from_numpy(self.data.images[self.rows[k]]), int(self.labels[k])
