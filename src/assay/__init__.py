"""Which training samples should an expert look at, why, and can the answer be trusted?

The names are imported when they are first used, so that `import assay` and `assay --help` do not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auditing.cuts import Cut
    from .auditing.ensemble import Ensemble, ensemble
    from .auditing.explain import Explanation
    from .auditing.group import GroupEffect
    from .auditing.load import load
    from .auditing.regions import Regions
    from .auditing.result import Audit
    from .auditing.run import audit
    from .auditing.shift import Share, Shift
    from .classical import Classical, classical_cooks_distance, classical_diagnostics
    from .cut_page import write_cuts
    from .errors import (
        AssayError,
        AssayWarning,
        ConvergenceError,
        EngineError,
        OutputError,
        SeparableError,
        ShapeError,
        SingularCurvatureError,
        SourceError,
        UnknownIdError,
    )
    from .explore.duplicates import NearDuplicates, near_duplicates
    from .explore.trace import Trace, trace
    from .explore.trust import Trust, TrustReport
    from .features.keep import Encoding
    from .head import Head
    from .influence.active_set import active_set_changes
    from .influence.groups import GroupInfluence, group_influence
    from .influence.pairs import Influences, influence_on
    from .influence.refit import Refits, refit_without
    from .influence.search import InfluentialGroup, most_influential_group
    from .leverage import LeaveOneOut, Leverage
    from .report import write_report
    from .sources.images import ImageFolder
    from .sources.open import open_source

_HOMES = {
    "Audit": "auditing.result",
    "Classical": "classical",
    "Cut": "auditing.cuts",
    "Encoding": "features.keep",
    "Ensemble": "auditing.ensemble",
    "Explanation": "auditing.explain",
    "ImageFolder": "sources.images",
    "GroupEffect": "auditing.group",
    "GroupInfluence": "influence.groups",
    "Head": "head",
    "Influences": "influence.pairs",
    "InfluentialGroup": "influence.search",
    "LeaveOneOut": "leverage",
    "Leverage": "leverage",
    "NearDuplicates": "explore.duplicates",
    "Refits": "influence.refit",
    "Regions": "auditing.regions",
    "Share": "auditing.shift",
    "Shift": "auditing.shift",
    "Trace": "explore.trace",
    "Trust": "explore.trust",
    "TrustReport": "explore.trust",
    "active_set_changes": "influence.active_set",
    "audit": "auditing.run",
    "classical_cooks_distance": "classical",
    "classical_diagnostics": "classical",
    "ensemble": "auditing.ensemble",
    "group_influence": "influence.groups",
    "influence_on": "influence.pairs",
    "load": "auditing.load",
    "most_influential_group": "influence.search",
    "near_duplicates": "explore.duplicates",
    "open_source": "sources.open",
    "refit_without": "influence.refit",
    "trace": "explore.trace",
    "write_cuts": "cut_page",
    "write_report": "report",
}

__all__ = [
    "AssayError",
    "AssayWarning",
    "Audit",
    "Classical",
    "ConvergenceError",
    "Cut",
    "Encoding",
    "EngineError",
    "Ensemble",
    "Explanation",
    "GroupEffect",
    "GroupInfluence",
    "Head",
    "ImageFolder",
    "Influences",
    "InfluentialGroup",
    "LeaveOneOut",
    "Leverage",
    "NearDuplicates",
    "OutputError",
    "Refits",
    "Regions",
    "SeparableError",
    "ShapeError",
    "Share",
    "Shift",
    "SingularCurvatureError",
    "SourceError",
    "Trace",
    "Trust",
    "TrustReport",
    "UnknownIdError",
    "active_set_changes",
    "audit",
    "classical_cooks_distance",
    "classical_diagnostics",
    "ensemble",
    "group_influence",
    "influence_on",
    "load",
    "most_influential_group",
    "near_duplicates",
    "open_source",
    "refit_without",
    "trace",
    "write_cuts",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)


def __dir__() -> list[str]:
    return __all__
