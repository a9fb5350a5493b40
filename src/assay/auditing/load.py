"""A finished audit, read back from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..features.keep import Encoding
from ..features.network import Network
from .folder import Folder
from .result import Audit


def load(path: str | Path, *, data: Any = None, model: Any = None) -> Audit:
    """The audit saved in a folder; raises `OutputError` where it is unfinished, missing or damaged.

    An audit that recomputes its features (`Encoding(keep="recompute")`) is given its network and training set again to
    explain or export; `SourceError` is raised where they are others.
    """
    if model is None:
        return Audit.open(Folder(Path(path)))
    encoding = Encoding(keep="recompute")
    source = Network(model, encoding=encoding).of(data, l2="auto", folder=None).source
    opened = Audit.open(Folder(Path(path)), None, source)
    opened.check_source()
    return opened
