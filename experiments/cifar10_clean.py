"""How good is the ResNet-20 that all else stands on? Trained on all 50,000 images as they are labelled.

    python experiments/cifar10_clean.py --work ../cifar10-work     # about 50 CPU minutes; goes on where it was stopped

Its test accuracy after each epoch of the one-cycle recipe is to reach 87 %. With fewer `--images` the rest of the
training images are judged instead, by which a recipe can be chosen without a look at the test images.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from cifar10 import STEP
from common import RESULTS, write_results
from safetensors.torch import load_file
from torch import Tensor, nn

from assay.canvas import BLUE, GREY, calm
from assay.datasets.cifar10 import cifar10
from assay.models.augment import crop_and_flip, normalise
from assay.models.muon import Muon
from assay.models.recipes import one_cycle_recipe
from assay.models.resnet import resnet
from assay.models.schedules import one_cycle
from assay.models.training import train

WANTED = 0.87


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, mirrored: bool = False) -> float:
    """On the device of the images; by the mean of the logits of an image and its mirror image where `mirrored`."""
    model.eval().to(images.device)

    def logits(batch: Tensor) -> Tensor:
        z = model(normalise(batch))
        return z + model(normalise(batch.flip(3))) if mirrored else z

    parts = zip(images.split(STEP), labels.to(images.device).split(STEP), strict=True)
    return sum(int((logits(x).argmax(1) == y).sum()) for x, y in parts) / len(labels)


def draw(images: int, epochs: list[int], train_loss: list[float], right: list[float], on: str, path: Path) -> None:
    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    ax.plot(epochs, right, "o-", color=BLUE, ms=4, label=on)
    ax.axhline(WANTED, color=GREY, ls="--", lw=1, label=f"{WANTED:.0%}")
    ax.set(xlabel="epoch", ylabel=on, title=f"ResNet-20, {images:,} clean images, one-cycle")
    loss = ax.twinx()
    loss.plot(range(1, len(train_loss) + 1), train_loss, color=GREY, lw=1)
    loss.set_ylabel("training loss (grey)")
    ax.legend(loc="center right", frameon=False)
    calm(ax, grid="both")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("cifar10-work"))
    parser.add_argument("--data", type=Path, default=None, help="CIFAR-10, where ASSAY_DATA does not say it")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rate", type=float, default=0.2, help="learning rate at the top of the cycle")
    parser.add_argument("--batch", type=int, default=128, help="images in a step")
    parser.add_argument(
        "--padding", type=int, default=4, help="pixels by which images are shifted in training, at most"
    )
    parser.add_argument("--decay", type=float, default=5e-4, help="weight decay")
    parser.add_argument("--peak", type=float, default=0.25, help="share of the training at which the rate is highest")
    parser.add_argument("--filters", type=float, default=0.0, help="rate of the filters under Muon, of --rate; 0: SGD")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, default=RESULTS / "cifar10")
    parser.add_argument("--device", default="cpu", help="where the network is trained: cpu, cuda")
    given = parser.parse_args()
    start = time.perf_counter()
    torch.set_num_threads(1)
    data = cifar10(given.data, cache=given.work)
    images, labels = torch.from_numpy(data.images).to(given.device), torch.from_numpy(data.labels).long()
    epochs = list(range(1, given.epochs + 1))
    how = {name: getattr(given, name) for name in ("rate", "batch", "padding", "decay", "peak", "filters", "seed")}
    name = "_".join(
        ["clean_resnet20", *(f"{part}{how[part]:g}" for part in how if how[part] != parser.get_default(part))]
    )
    home = given.work / f"{name}-{given.images}-{given.epochs}"
    torch.manual_seed(given.seed)
    model = resnet(20).to(given.device)
    recipe = one_cycle_recipe(given.epochs, checkpoints=tuple(epochs))
    options = {**dict(recipe.options), "weight_decay": given.decay}
    if given.filters:
        recipe = replace(recipe, optimizer=Muon)
        options = {"weight_decay": given.decay, "filters": given.filters}
    schedule, options = one_cycle(given.peak), tuple(options.items())
    recipe = replace(recipe, lr=given.rate, batch_size=given.batch, options=options, schedule=schedule, seed=given.seed)
    history = train(
        model, images[: given.images], labels[: given.images], recipe, folder=home, prepare=normalise,
        augment=crop_and_flip(given.padding),
        advance=lambda: print(f"{time.perf_counter() - start:,.0f} s", flush=True),
    )  # fmt: skip
    judged, on = slice(data.train_rows, None), "test accuracy"
    if given.images < data.train_rows:
        judged, on, name = slice(given.images, data.train_rows), "held-out accuracy", f"{name}_{given.images}"
    right: list[float] = []
    for epoch in epochs:
        model.load_state_dict(load_file(home / f"epoch-{epoch:05d}.safetensors"))
        right.append(accuracy(model, images[judged], labels[judged]))
    both = accuracy(model, images[judged], labels[judged], mirrored=True)
    given.folder.mkdir(parents=True, exist_ok=True)
    draw(given.images, epochs, history.loss, right, on, given.folder / f"{name}.png")
    found = {
        "images": given.images, **how, "device": given.device, "wanted": WANTED,
        on: right, f"{on}, seen mirrored too": both, "training loss": history.loss,
    }  # fmt: skip
    write_results(name, found, seconds=time.perf_counter() - start, folder=given.folder)
