"""A finished audit, read back from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ShapeError
from ..features.keep import Encoding
from ..features.network import Network
from .folder import Folder
from .result import Audit


def load(path: str | Path, *, data: Any = None, model: Any = None, family: Any = None, **columns: Any) -> Audit:
    """The audit saved in a folder; raises `OutputError` where it is unfinished, missing or damaged.

    An audit that recomputes its features (`Encoding(keep="recompute")`) is given its network and training set again to
    explain or export, with the `family` and `columns` (label, id, weight, …) it was made with; `SourceError` is raised
    where they are others.
    """
    folder = Folder(Path(path))
    if model is None:
        return Audit.open(folder)
    run = Audit.open(folder).info["arguments"].get("network")
    if run is None:
        raise ShapeError(f"the audit in {path} was not made through a network; leave model= out")
    encoding = Encoding(keep="recompute", precision=run["precision"], batch=run["batch"], mirror=run["mirror"])
    network = Network(model, run["layer"], family, encoding=encoding)
    opened = Audit.open(folder, None, network.of(data, l2="auto", folder=None, **columns).source)
    opened.check_source()
    return opened
