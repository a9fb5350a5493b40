"""How the networks for CIFAR-10 are trained, by name; `dataclasses.replace` sets a seed, a penalty or a precision."""

from __future__ import annotations

import torch

from .schedules import one_cycle, step
from .training import Training


def paper(epochs: int = 60, *, checkpoints: tuple[int, ...] = ()) -> Training:
    """Adam at 1e-3 in batches of 128, halved at every sixth of the training: every 10 of 60 epochs (Picard et al.)."""
    schedule = step([k / 6 for k in range(1, 6)], 0.5)
    return Training(epochs, lr=1e-3, schedule=schedule, checkpoints=checkpoints)


def one_cycle_recipe(epochs: int = 12, *, checkpoints: tuple[int, ...] = ()) -> Training:
    """SGD with Nesterov's momentum, up to 0.2 in the first quarter and down to nearly nothing (Smith & Topin 2019).

    VGG-19 and EfficientNetB0 do not begin to learn under that rate; 0.05 suits them.
    """
    options = (("momentum", 0.9), ("nesterov", True), ("weight_decay", 5e-4))
    return Training(
        epochs,
        lr=0.2,
        optimizer=torch.optim.SGD,
        options=options,
        schedule=one_cycle(peak=0.25),
        checkpoints=checkpoints,
    )


def overtrained(epochs: int = 40, *, checkpoints: tuple[int, ...] = ()) -> Training:
    """Adam at a constant 5e-4, to be run without augmentation until the network knows its labels by heart (Fig. 6b)."""
    return Training(epochs, lr=5e-4, checkpoints=checkpoints)
