"""The documentation cannot rot: its examples are run, its command reference is generated, and it builds strictly.

`ASSAY_WRITE_DOCS=1 pytest tests/test_docs.py` writes docs/command-line.md anew.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
INTRODUCTION = """# Command line

Results go to standard output, progress and messages to standard error. `--json` prints a result for machines. The exit
code is 0 where all went well, 1 where assay refused (the message says what to do), 2 where the command was misspelt, 3
where `assay trust` says not to trust, 130 after Ctrl-C.

An audit that was interrupted goes on where it stopped when the same command is given again.
"""


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.filterwarnings("ignore::assay.AssayWarning")  # the digits have columns that never vary
@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for code in examples(page):
        exec(compile(code, str(page), "exec"), names)


def commands() -> dict[str, Any]:
    from assay.cli import app

    found = dict(vars(typer.main.get_command(app))["commands"])
    for name, group in [(name, command) for name, command in found.items() if hasattr(command, "commands")]:
        del found[name]
        found |= {f"{name} {below}": command for below, command in group.commands.items()}
    return dict(sorted(found.items()))


def described(name: str, command: Any) -> str:
    """A command's section: usage, what it does, a table of its arguments and options."""
    arguments = [p.name for p in command.params if p.param_type_name == "argument"]
    lines = [
        f"\n## `assay {name}`\n",
        f"    assay {name} [OPTIONS] {' '.join(arguments)}\n",
        flat(command.help or ""),
        "",
    ]
    lines += ["| argument or option | default | what it is |", "|---|---|---|"]
    lines += [f"| {names(p)} | {default(p)} | {flat(p.help or '')} |" for p in command.params]
    return "\n".join(lines) + "\n"


def flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name}`"
    words = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return words if parameter.is_flag else f"{words} *{parameter.type_descriptor.annotation.__name__.lower()}*"


def default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    return f"`{value}`" if isinstance(value, str | int | float | Path) and not isinstance(value, bool) else ""


def test_the_command_reference_says_what_the_commands_say():
    page = ROOT / "docs" / "command-line.md"
    text = INTRODUCTION + "".join(described(name, command) for name, command in commands().items())
    if os.environ.get("ASSAY_WRITE_DOCS"):
        page.write_text(text, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == text, "run ASSAY_WRITE_DOCS=1 pytest tests/test_docs.py"


def test_the_documentation_builds_strictly(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.name for path in (tmp_path / "site").iterdir()}
    assert {"index.html", "getting-started", "reading-the-scores", "command-line", "reference"} <= pages
