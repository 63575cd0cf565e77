"""Run the commands whose output the README and the docs show, and put what they print there.

    python scripts/write_output.py             # every block
    python scripts/write_output.py search      # only blocks whose command holds this word

A block begins with ``<!-- output of: COMMAND -->`` and ends with ``<!-- end -->``. What a
command prints on stderr (progress, counts) is kept after stdout, as a terminal shows it. Where
a command writes Markdown that the page should show as such, the block begins with
``<!-- markdown of: COMMAND -->``, and stdout alone is put there.
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

    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        page.write_text(BLOCK.sub(fresh, text), encoding="utf-8")


if __name__ == "__main__":
    main()
