"""Run the commands that the README shows, and put what they print under them.

    python scripts/write_readme.py             # every block
    python scripts/write_readme.py search      # only blocks whose command holds this word

A block begins with ``<!-- output of: COMMAND -->`` and ends with ``<!-- end -->``. What a
command prints on stderr (progress, counts) is kept after stdout, as a terminal shows it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
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
        cwd=README.parent,
    )
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    printed = "\n".join(lines).strip("\n")
    shown = f"```text\n$ {command}\n{printed}\n```"
    return f"<!-- output of: {command} -->\n{shown}\n<!-- end -->"


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""

    def fresh(match: re.Match[str]) -> str:
        return block_for(match["command"]) if wanted in match["command"] else match[0]

    text = README.read_text(encoding="utf-8")
    README.write_text(BLOCK.sub(fresh, text), encoding="utf-8")


if __name__ == "__main__":
    main()
