"""Run the commands whose output the README and the docs show, and put what they print there.

    python scripts/write_output.py             # every block
    python scripts/write_output.py search      # only blocks whose command holds this word

A block begins with ``<!-- output of: COMMAND -->`` and ends with ``<!-- end -->``. What a
command prints on stderr (progress, counts) is kept after stdout, as a terminal shows it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- output of: (?P<command>[^\n]+) -->\n.*?<!-- end -->", re.DOTALL)


def block_for(command: str) -> str:
    environment = {**os.environ, "COLUMNS": "96", "NO_COLOR": "1"}
    done = subprocess.run(
        command,
        shell=True,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    printed = "\n".join(lines).strip("\n")
    shown = f"```text\n$ {command}\n{printed}\n```"
    return f"<!-- output of: {command} -->\n{shown}\n<!-- end -->"


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""

    def fresh(match: re.Match[str]) -> str:
        return block_for(match["command"]) if wanted in match["command"] else match[0]

    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        page.write_text(BLOCK.sub(fresh, text), encoding="utf-8")


if __name__ == "__main__":
    main()
