"""The documentation cannot rot: its examples are run, its command reference is generated, and it builds strictly.

`ASSAY_WRITE_DOCS=1 pytest tests/test_docs.py` writes docs/command-line.md anew.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
INTRODUCTION = """# Command line

Results go to standard output, progress and messages to standard error. `--json` prints a result for machines. The exit
code is 0 where all went well, 1 where assay refused (the message says what to do), 2 where the command was misspelt, 130 after Ctrl-C.
An audit that was interrupted goes on where it stopped when the same command is given again.
"""


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for code in examples(page):
        exec(compile(code, str(page), "exec"), names)


def commands() -> dict[str, click.Command]:
    from assay.cli import app

    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    return dict(sorted(group.commands.items()))


def described(command: click.Command) -> str:
    """A command's section: usage, what it does, a table of its arguments and options."""
    context = click.Context(command, info_name=f"assay {command.name}")
    pieces = [" ".join(command.collect_usage_pieces(context))]
    lines = [f"\n## `assay {command.name}`\n", f"    assay {command.name} {pieces[0]}\n", flat(command.help or ""), ""]
    lines += ["| argument or option | default | what it is |", "|---|---|---|"]
    for parameter in command.params:
        lines.append(f"| {names(parameter)} | {default(parameter)} | {flat(getattr(parameter, 'help', '') or '')} |")
    return "\n".join(lines) + "\n"


def flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def names(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option):
        words = [f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts)]
        kind = "" if parameter.is_flag else f" *{parameter.type.name}*"
        return ", ".join(words) + kind
    return f"`{parameter.human_readable_name}`"


def default(parameter: click.Parameter) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    return f"`{value}`" if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def test_the_command_reference_says_what_the_commands_say():
    page = ROOT / "docs" / "command-line.md"
    text = INTRODUCTION + "".join(described(command) for command in commands().values())
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
