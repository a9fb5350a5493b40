"""Does cleaning help a network that is trained again? (Refitting the head alone: cifar10_findings.py.)

    python experiments/cifar10_retrain.py --work ../cifar10-work     # goes on where it was stopped

Takes networks of cifar10.py that are there, at 5 % flips, one cycle; drops or relabels their first suspects, as many as
there are flips or twice as many, by the trimmed leave-one-out loss and what it suggests; and trains from
the same start on what is left. Beside them: nothing done, as many dropped at random, all flips undone.
Writes results/cifar10_retrain.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from cifar10 import Drawn, Unit, checkpoint, draw, train_unit
from cifar10_clean import accuracy
from cifar10_results import interval
from cifar10_scores import judged
from common import RESULTS, write_results
from safetensors.torch import load_file

import assay
from assay.datasets.cifar10 import Cifar10, cifar10
from assay.engine import atomic

Cleaned = dict[str, tuple[np.ndarray, np.ndarray]]


def cleaned(unit: Unit, home: Path, data: Cifar10, drawn: Drawn, device: str) -> Cleaned:
    """Rows that stay and their labels, by what was done."""
    point = checkpoint(unit, home, data, drawn, unit.epochs, device)
    H = torch.from_numpy(point.H).double()
    head = assay.Head.fit(H, drawn.labels, family="softmax")
    scores = judged(head, head.leverage(H, drawn.labels))
    suggested = head.family.probabilities(scores.loo_logits).numpy().argmax(1).astype(drawn.labels.dtype)
    order = (-scores.loo_loss.numpy()).argsort(kind="stable")
    flips, every = int((drawn.labels != drawn.truth).sum()), np.arange(len(drawn.labels))
    random = np.random.default_rng(unit.seed).permutation(len(every))
    found: Cleaned = {"nothing": (every, drawn.labels), "all flips undone": (every, drawn.truth)}
    for k in (1, 2):
        relabelled = drawn.labels.copy()
        relabelled[order[: k * flips]] = suggested[order[: k * flips]]
        found[f"first {k}x relabelled"] = every, relabelled
        found[f"first {k}x dropped"] = np.sort(order[k * flips :]), drawn.labels
    found["1x dropped at random"] = np.sort(random[flips:]), drawn.labels
    return found


def retrained(unit: Unit, data: Cifar10, left: Drawn, folder: Path, device: str) -> float:
    """Test accuracy, on all 10,000 test images, of the unit's network trained on what is left; kept in the folder."""
    digest = hashlib.blake2b(left.rows.tobytes() + left.labels.tobytes(), digest_size=6).hexdigest()
    file = folder / f"test-{digest}.json"
    if not file.exists():
        train_unit(unit, folder, data, left, device)
        model = unit.model()
        model.load_state_dict(load_file(folder / f"epoch-{unit.epochs:05d}.safetensors"))
        images, labels = (torch.from_numpy(x[data.train_rows :]) for x in (data.images, data.labels))
        with atomic(file) as temporary:
            temporary.write_text(json.dumps(accuracy(model, images.to(device), labels.long())), encoding="ascii")
    return json.loads(file.read_text(encoding="ascii"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("cifar10-work"))
    parser.add_argument("--data", type=Path, default=None, help="CIFAR-10, where ASSAY_DATA does not say it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--folder", type=Path, default=RESULTS)
    parser.add_argument("--device", default="cpu", help="where networks are trained and run: cpu, cuda")
    given = parser.parse_args()
    start, found, devices = time.perf_counter(), {}, set[str]()
    torch.set_num_threads(1)
    data = cifar10(given.data, cache=given.work)
    for seed in given.seeds:
        unit = Unit("resnet20", "plain", 10_000, 0.05, seed)
        drawn = draw(unit, data)
        for name, (rows, labels) in cleaned(unit, given.work / unit.name, data, drawn, given.device).items():
            folder = given.work / unit.name / "cleaned" / name.replace(" ", "-")
            left = Drawn(drawn.rows[rows], labels[rows], drawn.truth[rows], drawn.held_out)
            found.setdefault(name, []).append(retrained(unit, data, left, folder, given.device))
            devices.add((folder / "device").read_text(encoding="ascii"))
            print(f"{unit.name}, {name}: {found[name][-1]:.4f}, {time.perf_counter() - start:,.0f} s", flush=True)
    gained = {name: interval(np.subtract(each, found["nothing"])) for name, each in found.items() if name != "nothing"}
    told = {
        "seeds": given.seeds,
        "trained on": sorted(devices),
        "test accuracy": found,
        "gained over doing nothing": gained,
    }
    write_results("cifar10_retrain", told, seconds=time.perf_counter() - start, folder=given.folder)
