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
from safetensors.torch import load_file
from torch import Tensor, nn

from assay.datasets.cifar10 import MISTAKEN, Cifar10, cifar10
from assay.datasets.noise import flip_by_class, flip_uniformly
from assay.engine import atomic
from assay.models import heads
from assay.models.augment import crop_and_flip, normalise
from assay.models.efficientnet import efficientnet_b0
from assay.models.penalty import ElasticNet
from assay.models.recipes import one_cycle_recipe, overtrained, paper
from assay.models.resnet import resnet
from assay.models.training import Training, train
from assay.models.vgg import vgg19

UNITS = RESULTS / "cifar10" / "units"
VALIDATION = 0.2  # of the images drawn
KERAS = 1e-4  # l1 = l2 of the paper's elastic net; Keras has no ½
STEP = 500  # images evaluated at a time
RATES = {"resnet20": 0.2, "vgg19": 0.05, "efficientnet": 0.05}
"""At the top of the cycle. Of the deeper networks the best of a few by held-out accuracy (docs/images.md)."""


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
        made = {"over": overtrained, "paper": paper}.get(self.recipe, one_cycle_recipe)
        settings = replace(made(self.epochs, checkpoints=self.checkpoints), seed=self.seed)
        if made is one_cycle_recipe:
            settings = replace(settings, lr=RATES[self.network])
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
        *(Unit("resnet20", "plain", small, 0.05, seed, by_class=True) for seed in (0, 1, 2)),
        *(Unit("vgg19", "plain", small, 5e-4, seed) for seed in (0, 1)),
        Unit("vgg19", "plain", small, 0.05, 2),
        Unit("resnet20", "plain", small, 0.01, 0),
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


def run(unit: Unit, work: Path, data_path: Path | None, folder: Path, device: str = "cpu") -> str:
    """Trains and scores one unit; what is there already is not done again."""
    target = folder / f"{unit.name}.parquet"
    if target.exists():
        return f"{unit.name}: there"
    torch.set_num_threads(1)
    data = cifar10(data_path, cache=work)
    drawn = draw(unit, data)
    home, cpu = work / unit.name, time.process_time()
    train_unit(unit, home, data, drawn, device)
    trained = spent(home, time.process_time() - cpu)
    scoring = time.process_time()
    points = (checkpoint(unit, home, data, drawn, epoch, device) for epoch in unit.scored)
    found = score_checkpoints(points, drawn.labels, drawn.truth, home=home, total=unit.epochs, seed=unit.seed)
    told = {
        "unit": vars(unit), "trained on": (home / "device").read_text(encoding="ascii"),
        "training CPU seconds": round(trained, 1), "scoring CPU seconds": round(time.process_time() - scoring, 1),
        "checkpoints": found.told,
    }  # fmt: skip
    columns = {"row": pa.array(drawn.rows), "truth": pa.array(drawn.truth.astype(np.uint8)),
               "label": pa.array(drawn.labels.astype(np.uint8)), **found.columns}  # fmt: skip
    table = pa.table(columns).replace_schema_metadata({"assay": json.dumps(told)})
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(target) as temporary:
        write_scores(table, temporary)
    return f"{unit.name}: {trained:.0f} s trained, {told['scoring CPU seconds']:.0f} s scored"


def write_scores(table: pa.Table, path: Path) -> None:
    """Half-precision scores, their bytes apart: three quarters of what they take otherwise."""
    halves = [column.name for column in table.schema if column.type == pa.float16()]
    pq.write_table(table, path, compression="zstd", use_dictionary=False, use_byte_stream_split=halves)


def train_unit(unit: Unit, home: Path, data: Cifar10, drawn: Drawn, device: str) -> None:
    """Trains a unit's network; its weights stay in the folder."""
    inputs, labels = torch.from_numpy(data.images[drawn.rows]), torch.from_numpy(drawn.labels)
    augment = None if unit.recipe == "over" else crop_and_flip()
    train(unit.model().to(device), inputs.to(device), labels, unit.training, folder=home, prepare=normalise,
          augment=augment)  # fmt: skip
    if not (home / "device").exists():
        with atomic(home / "device") as temporary:
            temporary.write_text(device, encoding="ascii")


def run_plan(
    name: str, work: Path, data: Path | None, folder: Path, *, jobs: int = 1, only: str = "", device: str = "cpu"
) -> None:
    """All units of a plan whose names contain `only`, so many at a time, each on one thread."""
    work.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    cifar10(data, cache=work)  # decoded once, before any process begins
    todo = [unit for unit in plan(name) if only in unit.name]
    with ProcessPoolExecutor(jobs) as pool:
        for line in pool.map(run, todo, *([x] * len(todo) for x in (work, data, folder, device))):
            print(line, flush=True)


def spent(home: Path, seconds: float) -> float:
    """CPU seconds of all the calls that trained this unit, this one's added."""
    file = home / "seconds"
    total = seconds + (float(file.read_text(encoding="ascii")) if file.exists() else 0.0)
    with atomic(file) as temporary:
        temporary.write_text(f"{total}", encoding="ascii")
    return total


def checkpoint(unit: Unit, home: Path, data: Cifar10, drawn: Drawn, epoch: int, device: str) -> Checkpoint:
    """The network as it was after an epoch: embeddings of all images it was trained on, mirrored too, and of others.

    Of the test images every fourth.
    """
    kept = home / f"views-{epoch:05d}.npz"
    if not kept.exists():
        model = unit.model()
        model.load_state_dict(load_file(home / f"epoch-{epoch:05d}.safetensors"))
        model.to(device)
        last: Any = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        images = torch.from_numpy(data.images)
        tested = np.arange(data.train_rows, len(data))[:: 100 if unit.images < 1000 else 4]
        found = {name: embeddings(model, last, images, rows)
                 for name, rows in (("H", drawn.rows), ("validation", drawn.held_out), ("test", tested))}  # fmt: skip
        found["mirrored"] = embeddings(model, last, images, drawn.rows, mirror=True)
        found |= {name: getattr(last, of).detach().cpu().numpy() for name, of in (("W", "weight"), ("b", "bias"))}
        with atomic(kept) as temporary, open(temporary, "wb") as file:
            np.savez(file, tested=tested, **found)
    with np.load(kept) as a:
        lr = unit.training.lr * unit.training.schedule(min(epoch / unit.epochs, 1 - 1e-9))
        return Checkpoint(
            epoch, a["H"], a["mirrored"], a["W"], a["b"], a["validation"], data.labels[drawn.held_out], a["test"],
            data.labels[a["tested"]], lr,
        )  # fmt: skip


@torch.inference_mode()
def embeddings(
    model: nn.Module, last: nn.Linear, images: Tensor, rows: np.ndarray, *, mirror: bool = False
) -> np.ndarray:
    """What comes into the last linear layer, float32; of the mirror images where `mirror`."""
    model.eval()
    device, seen = last.weight.device, list[Tensor]()
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu()))
    for part in torch.from_numpy(rows).split(STEP):
        batch = images[part].to(device)
        model(normalise(batch.flip(3) if mirror else batch))
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
    parser.add_argument("--device", default="cpu", help="where networks are trained and run: cpu, cuda")
    given = parser.parse_args()
    run_plan(given.plan, given.work, given.data, given.folder, jobs=given.jobs, only=given.only, device=given.device)
