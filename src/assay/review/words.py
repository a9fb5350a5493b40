"""The scores of a sample in words an expert reads at a glance."""

from __future__ import annotations

import math
from typing import Any


def words_of(scores: dict[str, Any], info: dict[str, Any]) -> dict[str, str]:
    """A sentence a score; see `explore/kinds.py` for the thresholds that 0.5 stands for."""
    rows, parameters = info["rows"], info["effective_parameters"]
    regression = info["classes"] is None
    unit = "" if regression else " nats"
    thing = "target" if regression else "label"
    left_out, wrong = scores["loo_loss"], scores["mislabeled_score"]
    return {
        "mislabeled_score": f"{_strength(wrong)}: were it left out, its {thing} would cost "
        f"{-math.log(max(scores['label_score'], 1e-300)) + 0.0:.2g}{unit} "
        f"({'classes that are mistaken for it count for more' if info.get('mistaken') else '0.5 stands for 1'})",
        "under_represented_score": f"{_strength(scores['under_represented_score'])}: the model is "
        f"{scores['logit_variance'] / info['mean_logit_variance']:.2g} times as unsure here as on average "
        "(0.5 stands for 3)",
        "boundary_score": "of classes only"
        if regression
        else f"{_strength(scores['boundary_score'])}: 1 is a tie of the two most probable classes, 0.5 a third",
        "cooks_distance": f"number {scores['cooks_rank']:,} of {rows:,} by how far it moves the model",
        "leverage": f"its own fit takes {scores['leverage']:.2g} of {parameters:.3g} effective parameters",
        "loss": f"its loss is {scores['loss']:.2g}{unit} with it in the training set",
        "loo_loss": "it alone determines a parameter"
        if left_out != left_out
        else f"its loss is {left_out:.2g}{unit} when it is left out",
        "label_score": f"the model, the sample left out, gives the {thing} {scores['label_score']:.1%}",
        "logit_variance": f"variance {scores['logit_variance']:.2g} of the model's outputs here",
    }


def _strength(score: float) -> str:
    return "strong" if score >= 0.75 else "yes" if score >= 0.5 else "a little" if score >= 0.25 else "no"
