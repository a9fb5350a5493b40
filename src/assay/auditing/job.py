"""From a validated source to `audit.json`; each step finds what an interrupted run already wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from ..curvature.dense import Curvature
from ..design import Design
from ..encoder import Encoder
from ..engine import manifest, stage, write_json
from ..explore.kinds import robust_noise
from ..explore.planted import Flips
from ..explore.transitions import Transitions
from ..explore.trust import Trust, TrustReport
from ..explore.unseen import by_heart
from ..families import Family
from ..features.agreement import agreement
from ..features.encode import Encoded
from ..features.network import TrainedLayer
from ..head import Head
from ..l2 import L2Path, LeaveOneOutPath, Rows
from ..newton import Newton, Objective
from ..scores import read_scores
from ..sources.scan import Scan
from .columns import BESIDE, SIGN, UNITS
from .passes import Passes, at_weights, save_curvature, second_moment
from .sample import sample_rows
from .summary import summarise
from .trim import Trimmed, trim

PACKAGES = ("torch", "numpy", "pyarrow", "scikit-learn", "safetensors")


@dataclass(frozen=True)
class Sample:
    """The rows in memory on which λ2 is chosen and trust checked, and the design all rows go through."""

    positions: list[int]
    ids: pa.Array
    design: Design
    rows: Rows


@dataclass(frozen=True)
class Job:
    """The steps of one audit. A network's own `layer` is where the fit begins, or (`refit=False`) the head itself;
    `encoded` are its samples."""

    passes: Passes
    scan: Scan
    family: Family
    l2: float | str
    standardize: bool
    seed: int
    encoder: Encoder | None
    layer: TrainedLayer | None = None
    trim: bool = True
    encoded: Encoded | None = None

    def run(self, identity: dict[str, Any]) -> None:
        folder = self.passes.folder
        sample = self._sample()
        head, curvature = self._head(sample)
        noise = self._noise(head, curvature, sample)
        mean_logit_variance = float(self.family.spread(curvature.mean_block(second_moment(head, self.scan))))
        trimmed = Trimmed(head, curvature)
        if self._trims:
            trimmed = trim(self.passes, head, curvature, sample.positions, sample.rows)
        head.save(folder.head)
        save_curvature(curvature, folder.curvature)
        mistaken = self._mistaken(trimmed, sample)
        shards = self.passes.score(mean_logit_variance, noise, trained=self._beside(), judge=trimmed.weighing)
        trust = self._trust(head, sample)
        folder.finish(
            {
                **identity,
                "assay": version("assay"),
                "versions": {name: version(name) for name in PACKAGES},
                "rows": self.scan.rows,
                "total_weight": self.scan.total_weight,
                "columns": list(head.columns),
                "dropped_columns": [
                    n for n, keep in zip(head.columns, head.design.kept.tolist(), strict=True) if not keep
                ],
                "family": self.family.name,
                "classes": None if head.vocabulary is None else list(head.vocabulary),
                "class_rows": self.scan.class_rows.tolist(),
                "class_weight": self.scan.class_weight.tolist(),
                "targets": list(self.passes.source.targets),
                "l2": head.l2,
                "l2_path": None if head.l2_path is None else [head.l2_path.grid, head.l2_path.loo_loss],
                "damping": head.damping,
                "trained": self._told(),
                "trimmed": trimmed.told() if self._trims else None,
                "mistaken": mistaken,
                "sampled_rows": len(sample.positions),
                "iterations": head.iterations,
                "gradient_norm": head.gradient_norm,
                "gradient_scale": head.gradient_scale,
                "condition_number": curvature.condition_number,
                "effective_parameters": curvature.effective_parameters,
                "mean_logit_variance": mean_logit_variance,
                "noise": None if noise is None else noise.tolist(),
                "sign": SIGN,
                "units": UNITS if self._beside() is None else {**UNITS, **BESIDE},
                "trust": trust.to_json(),
                **summarise(shards),
                "manifest": manifest(shards, [stop - start for start, stop in self.passes.ranges]),
            }
        )

    @property
    def _trims(self) -> bool:
        """Classes, and a head that may be fitted again."""
        return self.trim and self.family.classifies and (self.layer is None or self.layer.refit)

    def _sample(self) -> Sample:
        source = self.passes.source
        rows = sample_rows(source, seed=self.seed)
        batch = source.take(rows)
        scan = self.scan
        if self.layer is not None and not self.layer.refit:
            design = self.layer.design
        else:
            design = Design.from_moments(scan.mean, scan.scale, scan.constant, standardize=self.standardize)
        return Sample(rows, batch.ids, design, Rows(design.matrix(batch.x), batch.y, batch.w))

    def _head(self, sample: Sample) -> tuple[Head, Curvature]:
        """The head that is scored, and its curvature over all rows."""
        if self.layer is not None and not self.layer.refit:
            head = self._trained
            assert head is not None
            return head, head.curvature_from(self.passes.moments(head).curvature)
        return self._fit(sample)

    def _fit(self, sample: Sample) -> tuple[Head, Curvature]:
        """Newton over all rows, from zero or from a network's own layer."""
        penalised = sample.design.penalised(penalize_bias=False)
        path = self._choose_l2(sample, penalised)
        l2 = self.l2 if path is None else path.l2
        assert not isinstance(l2, str)
        settings: dict[str, Any] = {**self._settings(sample.design), "l2": l2, "l2_path": path}
        start = torch.zeros(self.family.K, sample.design.d, dtype=torch.float64)
        if self.layer is not None and self.layer.fits(self.family, self.passes.source.vocabulary):
            start = self.layer.on(sample.design)
        head = Head(V=start, **settings)
        objective = Objective(
            self.family,
            lambda V: self.passes.moments(at_weights(head, V)),
            head.total_weight,
            l2,
            penalised,
            head.names,
        )
        fit = Newton().minimise(objective, start)
        return Head.from_fit(fit, **settings), fit.curvature

    @cached_property
    def _trained(self) -> Head | None:
        """A network's own layer as a head, the gradient at it measured; None where it has other classes."""
        layer = self.layer
        if layer is None or not layer.fits(self.family, self.passes.source.vocabulary):
            return None
        plain = layer.head(self.family, self.passes.source, self.scan.total_weight, self.encoder)
        return plain.as_trained(lambda V: self.passes.moments(at_weights(plain, V)))

    def _beside(self) -> Head | None:
        """The trained head, where its scores are asked for beside those of the refitted one."""
        return self._trained if self.layer is not None and self.layer.both else None

    def _told(self) -> dict[str, Any] | None:
        """How far from stationary a network's own layer was."""
        trained = self._trained
        if trained is None:
            return None
        named = ("l2", "damping", "penalize_bias", "gradient_norm", "gradient_scale")
        return {name: getattr(trained, name) for name in named}

    def _settings(self, design: Design) -> dict[str, Any]:
        return {
            "family": self.family,
            "design": design,
            "total_weight": self.scan.total_weight,
            "columns": self.passes.source.columns,
            "vocabulary": self.passes.source.vocabulary,
            "encoder": self.encoder,
        }

    def _choose_l2(self, sample: Sample, penalised: Tensor) -> L2Path | None:
        """λ2 of the whole data: the sample's best, its total penalty carried over; kept for a resumed run."""
        if self.l2 != "auto":
            return None
        file = self.passes.folder.work / "l2.json"
        if not file.exists():
            points = LeaveOneOutPath().points()
            with stage(self.passes.progress, "choose l2", len(points)) as advance:
                path = LeaveOneOutPath().choose(self.family, sample.rows, penalised, advance=advance)
            share = float(sample.rows.w.sum()) / self.scan.total_weight
            write_json(file, [path.l2 * share, [l2 * share for l2 in path.grid], path.loo_loss])
        l2, grid, losses = json.loads(file.read_text(encoding="utf-8"))
        return L2Path(l2, tuple(grid), tuple(losses))

    def _mistaken(self, trimmed: Trimmed, sample: Sample) -> list[dict[str, Any]] | None:
        """Which classes are mistaken for which, told once: a resumed run, and every shard, finds it in the folder."""
        if not self._trims:
            return None
        file = self.passes.folder.mistaken
        if not file.exists():
            trimmed.judged(sample.positions, sample.rows).mistaken.save(file)
        return Transitions.load(file).told(self.passes.source.vocabulary or ())

    def _noise(self, head: Head, curvature: Curvature, sample: Sample) -> Tensor | None:
        if self.family.classifies:
            return None
        rows = sample.rows
        scores = read_scores(self.family, curvature, head.V, rows.H, rows.y, rows.w)
        return robust_noise(scores.loo_logits - rows.y)

    def _trust(self, head: Head, sample: Sample) -> TrustReport:
        file = self.passes.folder.work / "trust.json"
        if not file.exists():
            seen = None if self.encoded is None else agreement(self.encoded)
            further = [] if seen is None else [by_heart(seen.images, seen.mirrored, seen.error, seen.samples)]
            with stage(self.passes.progress, "check trust", Trust().steps) as advance:
                report = Trust(seed=self.seed, flips=Flips(trim=self._trims)).report(
                    head, sample.rows, sample.ids, further=further, advance=advance
                )
            write_json(file, report.to_json())
        return TrustReport.from_json(json.loads(file.read_text(encoding="utf-8")))
