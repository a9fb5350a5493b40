"""kronfluence 1.0.1: EKFAC self-influence of the layer."""

from __future__ import annotations

import tempfile

import torch
from common import arrays, report
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset


class Classification(Task):
    def compute_train_loss(self, batch, model: nn.Module, sample: bool = False) -> torch.Tensor:
        x, y = batch
        z = model(x)
        if sample:
            y = torch.multinomial(torch.softmax(z.detach(), -1), 1).flatten()
        return functional.cross_entropy(z, y, reduction="sum")

    def compute_measurement(self, batch, model: nn.Module) -> torch.Tensor:
        return self.compute_train_loss(batch, model)


layer, X, y, damping, exact = arrays()
task = Classification()
model = prepare_model(nn.Sequential(layer), task)
data = TensorDataset(X, y)


def run():
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer("speed", model, task, cpu=True, output_dir=folder, disable_tqdm=True)
        analyzer.fit_all_factors("f", data, per_device_batch_size=4096, factor_args=FactorArguments(strategy="ekfac"))
        analyzer.compute_self_scores(
            "s", "f", data, per_device_train_batch_size=4096, score_args=ScoreArguments(damping_factor=damping)
        )
        return analyzer.load_self_scores("s")["all_modules"].numpy()


report("kronfluence EKFAC", run, exact)
