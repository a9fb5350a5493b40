"""Networks trained on CIFAR-10 with flipped labels, and every score of every training image at their checkpoints.

    python experiments/cifar10.py --plan cpu --jobs 2 --work ../cifar10-work     # goes on where it was stopped
    python experiments/cifar10.py --plan smoke

One network is one unit: it is trained (its checkpoints stay in the work folder), scored at each checkpoint, and leaves
one small table in results/cifar10/units/. Units are done in an order in which any finished part gives every figure.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from cifar10_scores import Checkpoint, score_checkpoints
from common import RESULTS
from torch import Tensor, nn

from assay.datasets.cifar10 import MISTAKEN, Cifar10, cifar10
from assay.datasets.noise import flip_by_class, flip_uniformly
from assay.engine import atomic
from assay.models import heads
from assay.models.augment import crop_and_flip, normalise
from assay.models.efficientnet import efficientnet_b0
from assay.models.penalty import ElasticNet
from assay.models.recipes import adam_cycle, one_cycle_recipe, overtrained, paper
from assay.models.resnet import resnet
from assay.models.training import Training, train
from assay.models.vgg import vgg19

UNITS = RESULTS / "cifar10" / "units"
VALIDATION = 0.2  # of the images drawn
KERAS = 1e-4  # l1 = l2 of the paper's elastic net; Keras has no ½
STEP = 500  # images evaluated at a time


@dataclass(frozen=True)
class Unit:
    """A network, how it is trained, on how many images (four fifths of those drawn), and how labels are flipped."""

    network: str
    recipe: str
    images: int
    flips: float
    seed: int
    epochs: int = 12
    by_class: bool = False

    @property
    def name(self) -> str:
        flips = f"{self.flips:.2%}".rstrip("0%").rstrip(".") + ("c" if self.by_class else "")
        return f"{self.network}-{self.recipe}{self.epochs}-{self.images}-{flips}-{self.seed}"

    @property
    def checkpoints(self) -> tuple[int, ...]:
        return tuple(e for e in (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 50, 60, 100, 200) if e <= self.epochs)

    @property
    def scored(self) -> tuple[int, ...]:
        """The checkpoints at which scores are computed: fewer, which is as good for a trace."""
        return tuple(e for e in (2, 4, 6, 8, 10, 12, 16, 24, 32, 40, 60, 100, 200) if e <= self.epochs)

    @property
    def training(self) -> Training:
        cycle = adam_cycle if self.network == "efficientnet" else one_cycle_recipe
        made = {"plain": cycle, "elastic": cycle, "over": overtrained, "paper": paper}[self.recipe]
        settings = replace(made(self.epochs, checkpoints=self.checkpoints), seed=self.seed)
        if self.recipe == "elastic":
            settings = replace(settings, penalty=ElasticNet(KERAS, 2 * KERAS, layers=self.dense))
        return settings

    @property
    def dense(self) -> int:
        return 1 if self.network == "resnet20" else 2

    def model(self) -> nn.Sequential:
        """With the paper's head, but for ResNet-20, whose own is one linear layer."""
        torch.manual_seed(self.seed)
        if self.network == "resnet20":
            return resnet(20)
        return vgg19(head=heads.paper) if self.network == "vgg19" else efficientnet_b0(stem_stride=2, head=heads.paper)


def plan(name: str) -> list[Unit]:
    """All units of a scale, each figure's first models before anyone's second."""
    if name == "smoke":
        return [Unit("resnet20", recipe, 400, 0.05, 0, epochs=2) for recipe in ("plain", "elastic")]
    if name == "paper":
        nets, regimes = ("resnet20", "vgg19", "efficientnet"), (("paper", 60), ("elastic", 60), ("over", 200))
        return [
            Unit(net, recipe, 40_000, share, seed, epochs)
            for seed in range(10) for recipe, epochs in regimes for net in nets for share in (5e-4, 1e-4, 0.05, 0.01)
        ]  # fmt: skip
    small = 10_000
    return [
        Unit("resnet20", "plain", small, 0.05, 0),
        Unit("resnet20", "plain", small, 5e-4, 0),
        Unit("resnet20", "over", small, 0.05, 0, 40),
        Unit("resnet20", "elastic", small, 0.05, 0),
        Unit("efficientnet", "plain", small, 0.05, 0),
        Unit("resnet20", "plain", small, 0.05, 1),
        Unit("resnet20", "over", small, 0.05, 1, 40),
        *(Unit("resnet20", recipe, small, 0.05, 1 + k) for k, recipe in enumerate(("elastic", "plain"))),
        *(Unit("resnet20", "plain", small, 5e-4, seed) for seed in (1, 2)),
        Unit("resnet20", "elastic", small, 0.05, 2),
        Unit("efficientnet", "plain", small, 0.05, 1),
        Unit("vgg19", "plain", small, 0.05, 0),
        *(Unit("resnet20", "plain", 40_000, share, 0) for share in (0.05, 5e-4)),
        *(Unit("resnet20", "plain", small, share, seed) for seed in (3, 4, 5) for share in (5e-4, 0.05)),
        Unit("vgg19", "plain", small, 0.05, 1),
        Unit("resnet20", "over", small, 0.05, 2, 40),
        Unit("resnet20", "plain", 40_000, 1e-4, 0),
    ]


@dataclass(frozen=True)
class Drawn:
    """The images of a unit, their labels with the flips in, the truth, and their rows in the data set."""

    rows: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    held_out: np.ndarray  # further rows, for validation


def draw(unit: Unit, data: Cifar10) -> Drawn:
    """The same images and flips for every network and recipe of one seed, number of images and share of flips."""
    order = np.random.default_rng([unit.seed, 7]).permutation(data.train_rows)
    validation = int(unit.images * VALIDATION / (1 - VALIDATION))
    rows, held_out = order[: unit.images], order[unit.images : unit.images + validation]
    truth = data.labels[rows]
    if unit.by_class:
        labels, _ = flip_by_class(truth, unit.flips, MISTAKEN, seed=unit.seed)
    else:
        labels, _ = flip_uniformly(truth, unit.flips, seed=unit.seed)
    return Drawn(rows, labels, truth, held_out)


def run(unit: Unit, work: Path, data_path: Path | None, folder: Path) -> str:
    """Trains and scores one unit; what is there already is not done again."""
    target = folder / f"{unit.name}.parquet"
    if target.exists():
        return f"{unit.name}: there"
    torch.set_num_threads(1)
    data = cifar10(data_path, cache=work)
    drawn = draw(unit, data)
    images = torch.from_numpy(data.images)
    inputs, labels = images[torch.from_numpy(drawn.rows)], torch.from_numpy(drawn.labels)
    model, home, cpu = unit.model(), work / unit.name, time.process_time()
    train(
        model, inputs, labels, unit.training, folder=home, prepare=normalise,
        augment=None if unit.recipe == "over" else crop_and_flip(),
    )  # fmt: skip
    trained = spent(home, time.process_time() - cpu)
    scoring = time.process_time()
    found = score_checkpoints(
        checkpoints(unit, home, data, drawn), drawn.labels, drawn.truth, total=unit.epochs, seed=unit.seed
    )
    told = {
        "unit": vars(unit), "training CPU seconds": round(trained, 1),
        "scoring CPU seconds": round(time.process_time() - scoring, 1), "checkpoints": found.told,
    }  # fmt: skip
    columns = {"row": pa.array(drawn.rows), "truth": pa.array(drawn.truth.astype(np.uint8)),
               "label": pa.array(drawn.labels.astype(np.uint8)), **found.columns}  # fmt: skip
    table = pa.table(columns).replace_schema_metadata({"assay": json.dumps(told)})
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(target) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return f"{unit.name}: {trained:.0f} s trained, {told['scoring CPU seconds']:.0f} s scored"


def run_plan(name: str, work: Path, data: Path | None, folder: Path, *, jobs: int = 1, only: str = "") -> None:
    """All units of a plan whose names contain `only`, so many at a time, each on one thread."""
    work.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    cifar10(data, cache=work)  # decoded once, before any process begins
    todo = [unit for unit in plan(name) if only in unit.name]
    with ProcessPoolExecutor(jobs) as pool:
        for line in pool.map(run, todo, *([x] * len(todo) for x in (work, data, folder))):
            print(line, flush=True)


def spent(home: Path, seconds: float) -> float:
    """CPU seconds of all the calls that trained this unit, this one's added."""
    file = home / "seconds"
    total = seconds + (float(file.read_text(encoding="ascii")) if file.exists() else 0.0)
    with atomic(file) as temporary:
        temporary.write_text(f"{total}", encoding="ascii")
    return total


def checkpoints(unit: Unit, home: Path, data: Cifar10, drawn: Drawn) -> Iterator[Checkpoint]:
    """The network as it was after each of these epochs: embeddings and logits of all images it was trained on."""
    from safetensors.torch import load_file

    images = torch.from_numpy(data.images)
    model = unit.model()
    last: Any = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    for epoch in unit.scored:
        kept = home / f"embedding-{epoch:05d}.npz"
        if not kept.exists():
            model.load_state_dict(load_file(home / f"epoch-{epoch:05d}.safetensors"))
            H = embeddings(model, last, images, drawn.rows)
            validation = embeddings(model, last, images, drawn.held_out)
            tested = np.arange(data.train_rows, len(data))[:: 100 if unit.images < 1000 else 4]
            test = embeddings(model, last, images, tested)
            weights = {"W": last.weight.detach().numpy(), "b": last.bias.detach().numpy()}
            with atomic(kept) as temporary, open(temporary, "wb") as file:
                np.savez(file, H=H, validation=validation, test=test, tested=tested, **weights)
        other = home / f"mirrored-{epoch:05d}.npz"
        if not other.exists():
            model.load_state_dict(load_file(home / f"epoch-{epoch:05d}.safetensors"))
            with atomic(other) as temporary, open(temporary, "wb") as file:
                np.savez(file, H=embeddings(model, last, images, drawn.rows, mirror=True))
        with np.load(kept) as a, np.load(other) as b:
            done = epoch / unit.epochs
            yield Checkpoint(
                epoch, a["H"], b["H"], a["W"], a["b"], a["validation"], data.labels[drawn.held_out], a["test"],
                data.labels[a["tested"]], unit.training.lr * unit.training.schedule(min(done, 1 - 1e-9)),
            )  # fmt: skip


@torch.inference_mode()
def embeddings(
    model: nn.Module, last: nn.Linear, images: Tensor, rows: np.ndarray, *, mirror: bool = False
) -> np.ndarray:
    """What comes into the last linear layer, float32; of the mirror images where `mirror`."""
    model.eval()
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
    for part in torch.from_numpy(rows).split(STEP):
        seen_as = images[part].flip(3) if mirror else images[part]
        model(normalise(seen_as))
    hook.remove()
    return torch.cat(seen).numpy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", choices=("smoke", "cpu", "paper"), default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("cifar10-work"))
    parser.add_argument("--data", type=Path, default=None, help="CIFAR-10, where ASSAY_DATA does not say it")
    parser.add_argument("--only", default="", help="units whose name contains this")
    parser.add_argument("--folder", type=Path, default=UNITS)
    given = parser.parse_args()
    run_plan(given.plan, given.work, given.data, given.folder, jobs=given.jobs, only=given.only)
