"""What must stay true of the whole package, whatever is added to it."""

import ast
import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement

import assay

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "assay"
FILES = sorted(SOURCE.rglob("*.py"))
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))}

# Each may import what stands above it, and its own layer as long as no circle arises. A new part is placed here first.
LAYERS = [
    {"errors"},
    {"threads", "pool", "encoder", "evaluating"},
    {"engine", "sources", "families", "design"},
    {"curvature"},
    {"scores", "leverage"},
    {"newton", "classical"},
    {"elasticnet"},
    {"l2", "from_sklearn"},
    {"trained", "head_file", "losses"},
    {"head"},
    {"features"},
    {"influence"},
    {"explore", "decisions"},
    {"auditing"},
    {"canvas", "plots", "inline", "shown"},
    {"report", "cut_page"},
    {"review"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]
# These stand apart: they may import only what is named.
APART = {"datasets": {"engine", "errors", "sources"}, "models": {"engine", "errors", "sources"}}


def part(path: Path) -> str:
    """The first name below the package: `curvature` for curvature/dense.py."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def targets(path: Path, node: ast.AST) -> Iterator[str]:
    """The parts of assay that an import statement names."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        package = ("assay", *path.relative_to(SOURCE).parent.parts)
        base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
        names = [f"{base}.{node.module}".strip(".") if node.module else base]
        if names == ["assay"]:
            names = [f"assay.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        first, _, rest = name.partition(".")
        if first == "assay":
            below = rest.partition(".")[0]
            yield below if below and (list(SOURCE.glob(f"{below}.py")) or (SOURCE / below).is_dir()) else "__init__"


def imports() -> dict[str, set[str]]:
    """part → the other parts it imports, inside functions too."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {name for node in ast.walk(tree) for name in targets(path, node)}
        found.setdefault(part(path), set()).update(named - {part(path)})
    return found


def test_imports_follow_the_layers():
    rank = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    for name, used in imports().items():
        if name in APART:
            assert used <= APART[name], f"{name} may import only {APART[name]}, but imports {used - APART[name]}"
            continue
        assert name in rank, f"{name} has no layer: place it in LAYERS"
        above = {other for other in used - set(APART) if rank[other] > rank[name]}
        assert not above, f"{name} imports {above}, which stand above it"


def test_imports_have_no_circle():
    assert list(TopologicalSorter(imports()).static_order())


def test_the_walk_sees_imports():
    found = imports()
    assert {"errors", "families"} <= found["leverage"]
    assert "auditing" in found["report"]
    assert "curvature" not in found["curvature"]


def test_all_is_what_is_there():
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    own = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert [alias.name for node in own for alias in node.names if alias.asname] == []
    assert {alias.name for node in own for alias in node.names} == set(assay.__all__)
    assert len(assay.__all__) == len(set(assay.__all__))


def test_no_module_hides_a_public_name():
    for module in pkgutil.walk_packages(assay.__path__, "assay."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    homes = {name: getattr(assay, name) for name in assay.__all__}
    assert not [name for name, thing in homes.items() if inspect.ismodule(thing)]
    assert all(thing.__name__ == name and thing.__module__.startswith("assay.") for name, thing in homes.items())
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        assay.nothing  # noqa: B018  an attribute is asked for


def test_every_public_object_is_documented_where_it_stands():
    for name in assay.__all__:
        thing = getattr(assay, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            assert inspect.getdoc(thing), f"assay.{name} has no docstring"


def core_distributions() -> set[str]:
    """assay's own requirements without extras, and theirs."""

    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    found: set[str] = set()
    pending = ["assay"]
    while pending:
        name = normal(pending.pop())
        if name in found:
            continue
        found.add(name)
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # a requirement for another platform
            continue
        for requirement in map(Requirement, required):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
    owners = importlib.metadata.packages_distributions()
    return {module for module, names in owners.items() if found & {normal(name) for name in names}}


BLOCKED = """
import importlib, json, pkgutil, sys
blocked = set(json.loads(sys.argv[1]))
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked: it is not a core dependency", name=name)
sys.meta_path.insert(0, Blocker())
import assay
for module in pkgutil.walk_packages(assay.__path__, "assay."):
    try:
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    except assay.ExtraError as told:
        assert module.name == "assay.review.web" and "pip install" in str(told), module.name
for name in assay.__all__:
    getattr(assay, name)
print("imported", len(assay.__all__))
"""


def test_core_imports_without_extras():
    extras = set(importlib.metadata.packages_distributions()) - core_distributions() - set(sys.stdlib_module_names)
    assert {"pandas", "polars", "statsmodels", "hypothesis", "pytest", "beartype"} <= extras
    assert not extras & {"torch", "numpy", "pyarrow", "sklearn", "scipy", "jinja2", "matplotlib"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, json.dumps(sorted(extras))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("imported")


@pytest.mark.parametrize("name", assay.__all__)
def test_every_public_name_is_in_the_docs(name: str):
    assert any(re.search(rf"\b{name}\b", text) for text in DOCS.values()), f"assay.{name} is not mentioned in docs/"


def commands() -> dict[str, Any]:
    from assay.cli import app

    found = dict(vars(typer.main.get_command(app))["commands"])
    for name, group in [(name, command) for name, command in found.items() if hasattr(command, "commands")]:
        del found[name]
        found |= {f"{name} {below}": command for below, command in group.commands.items()}
    return found


def test_every_command_and_option_is_in_the_docs():
    sections = dict(re.findall(r"^## `assay ([\w -]+)`\n(.*?)(?=^## |\Z)", DOCS["command-line.md"], re.M | re.S))
    assert set(sections) == set(commands())
    for name, command in commands().items():
        for parameter in command.params:
            option = parameter.param_type_name == "option"
            for word in parameter.opts if option else [parameter.name]:
                assert f"`{word}`" in sections[name], f"`assay {name} {word}` is not in docs/command-line.md"


def test_the_installed_torch_is_the_pinned_one():
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M)
    assert pinned is not None
    assert importlib.metadata.version("torch").partition("+")[0] == pinned[1]


def test_the_lock_holds_every_declared_requirement():
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M))
    pinned = {name.lower().replace("_", "-"): version for name, version in lock.items()}
    declared = map(Requirement, importlib.metadata.requires("assay") or [])
    for requirement in declared:
        name = requirement.name.lower().replace("_", "-")
        assert name in pinned, f"{name} is declared in pyproject.toml but not pinned in requirements.lock"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} excludes the pinned {pinned[name]}"
    assert not re.search(r"://|@|\+", "\n".join(lock.values()))


def test_no_file_is_over_300_lines():
    long = {str(path): count for path in FILES if (count := len(path.read_text("utf-8").splitlines())) > 300}
    assert not long, f"one concept, one file: {long}"


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What must not be in the source: pickles, their flags, bare excepts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno}: bare except"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if {name.partition(".")[0] for name in names} & {
                "pickle",
                "cPickle",
                "cloudpickle",
                "dill",
                "joblib",
                "shelve",
            }:
                yield f"line {node.lineno}: imports a pickle"
        if isinstance(node, ast.keyword) and (node.arg, getattr(node.value, "value", None)) in {
            ("weights_only", False),
            ("allow_pickle", True),
        }:
            yield f"line {node.lineno}: {node.arg}={node.value.value}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_unsafe(path: Path):
    assert not list(unsafe(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "try:\n  f()\nexcept:\n  pass",
    ],
)
def test_what_is_unsafe_is_seen(code: str):
    assert list(unsafe(ast.parse(code)))
