"""Run the commands whose output README.md, ARCHITECTURE.md and docs/ show, and replace the output.

    python scripts/write_output.py             # every block
    python scripts/write_output.py search      # only blocks whose command contains this word

A block begins with ``<!-- output of: COMMAND -->`` and ends with ``<!-- end -->``. It shows stdout,
then stderr, as a terminal does. A block that begins with ``<!-- markdown of: COMMAND -->`` shows
stdout as Markdown. Commands run in the repository's root; data sets lie in ``data/`` there, a
folder or a link that git ignores.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"<!-- (?P<kind>output|markdown) of: (?P<command>[^\n]+) -->\n.*?<!-- end -->", re.DOTALL
)


def block_for(kind: str, command: str) -> str:
    environment = {**os.environ, "COLUMNS": "96", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command,
        shell=True,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if kind == "output" else None,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    printed = "\n".join(lines).strip("\n")
    shown = f"```text\n$ {command}\n{printed}\n```" if kind == "output" else printed
    return f"<!-- {kind} of: {command} -->\n{shown}\n<!-- end -->"


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""

    def fresh(match: re.Match[str]) -> str:
        return (
            block_for(match["kind"], match["command"]) if wanted in match["command"] else match[0]
        )

    for page in (
        ROOT / "README.md",
        ROOT / "ARCHITECTURE.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ):
        text = page.read_text(encoding="utf-8")
        page.write_text(BLOCK.sub(fresh, text), encoding="utf-8")


if __name__ == "__main__":
    main()
