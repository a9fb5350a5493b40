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
    from .curvature.arnoldi import Arnoldi
    from .curvature.auto import Auto
    from .curvature.cg import CG
    from .curvature.exact import Dense
    from .curvature.inverse import Diagnosis, Solution
    from .curvature.jacobi import Jacobi
    from .curvature.kfac import EKFAC, KFAC
    from .curvature.lissa import LiSSA
    from .curvature.nystrom import Nystrom
    from .curvature.output_loss import OnModel
    from .curvature.products import GaussNewton, Hessian
    from .curvature.stated_error import StatedError
    from .curvature.sums import Checkpoint
    from .curvature.wide_head import WideHead
    from .cut_page import write_cuts
    from .errors import (
        AssayError,
        AssayWarning,
        ConvergenceError,
        EngineError,
        ExtraError,
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
    from .influence.network import Influence
    from .influence.network_results import NetworkGroup, NetworkInfluences, RelatIF, SelfInfluence
    from .influence.pairs import Influences, influence_on
    from .influence.refit import Refits, refit_without
    from .influence.search import InfluentialGroup, most_influential_group
    from .leverage import LeaveOneOut, Leverage
    from .report import write_report
    from .sources.images import ImageFolder
    from .sources.open import open_source

_HOMES = {
    "Arnoldi": "curvature.arnoldi",
    "Audit": "auditing.result",
    "Auto": "curvature.auto",
    "CG": "curvature.cg",
    "Checkpoint": "curvature.sums",
    "Classical": "classical",
    "Cut": "auditing.cuts",
    "Dense": "curvature.exact",
    "Diagnosis": "curvature.inverse",
    "EKFAC": "curvature.kfac",
    "Encoding": "features.keep",
    "Ensemble": "auditing.ensemble",
    "Explanation": "auditing.explain",
    "GaussNewton": "curvature.products",
    "GroupEffect": "auditing.group",
    "GroupInfluence": "influence.groups",
    "Head": "head",
    "Hessian": "curvature.products",
    "ImageFolder": "sources.images",
    "Influence": "influence.network",
    "Influences": "influence.pairs",
    "InfluentialGroup": "influence.search",
    "Jacobi": "curvature.jacobi",
    "KFAC": "curvature.kfac",
    "LeaveOneOut": "leverage",
    "Leverage": "leverage",
    "LiSSA": "curvature.lissa",
    "NearDuplicates": "explore.duplicates",
    "NetworkGroup": "influence.network_results",
    "NetworkInfluences": "influence.network_results",
    "Nystrom": "curvature.nystrom",
    "OnModel": "curvature.output_loss",
    "Refits": "influence.refit",
    "Regions": "auditing.regions",
    "RelatIF": "influence.network_results",
    "SelfInfluence": "influence.network_results",
    "Share": "auditing.shift",
    "Shift": "auditing.shift",
    "Solution": "curvature.inverse",
    "StatedError": "curvature.stated_error",
    "Trace": "explore.trace",
    "Trust": "explore.trust",
    "TrustReport": "explore.trust",
    "WideHead": "curvature.wide_head",
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
    "CG",
    "EKFAC",
    "KFAC",
    "Arnoldi",
    "AssayError",
    "AssayWarning",
    "Audit",
    "Auto",
    "Checkpoint",
    "Classical",
    "ConvergenceError",
    "Cut",
    "Dense",
    "Diagnosis",
    "Encoding",
    "EngineError",
    "Ensemble",
    "Explanation",
    "ExtraError",
    "GaussNewton",
    "GroupEffect",
    "GroupInfluence",
    "Head",
    "Hessian",
    "ImageFolder",
    "Influence",
    "Influences",
    "InfluentialGroup",
    "Jacobi",
    "LeaveOneOut",
    "Leverage",
    "LiSSA",
    "NearDuplicates",
    "NetworkGroup",
    "NetworkInfluences",
    "Nystrom",
    "OnModel",
    "OutputError",
    "Refits",
    "Regions",
    "RelatIF",
    "SelfInfluence",
    "SeparableError",
    "ShapeError",
    "Share",
    "Shift",
    "SingularCurvatureError",
    "Solution",
    "SourceError",
    "StatedError",
    "Trace",
    "Trust",
    "TrustReport",
    "UnknownIdError",
    "WideHead",
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
