"""Print the list of modules in ARCHITECTURE.md: every file that people edit, in a line each.

The line is the first one of the file's docstring, or of the comment that the file begins with.
"""

import ast
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "fashionclip"
FOLDERS = (PACKAGE, ROOT / "projects", ROOT / "benchmarks", ROOT / "scripts")
SUFFIXES = {".py", ".toml", ".jinja", ".css", ".js"}


def summary(path: Path) -> str:
    """Return the first line of a file's docstring or first comment.

    Raises:
        ValueError: the file begins with neither.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    else:
        line = text.partition("\n")[0]
        first = line.strip("{}#/*- ") if line.startswith(("{#", "#", "/*", "//")) else ""
    if not first:
        raise ValueError(f"{path}: begin the file with a line that says what is in it")
    return first.rstrip(".").replace("``", "`")


def package_of(path: Path) -> str:
    """The heading above a file: its package, or the folder outside the package."""
    if not path.is_relative_to(PACKAGE):
        return path.relative_to(ROOT).parts[0]
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else "."


def main() -> None:
    for folder in FOLDERS:
        paths = [path for path in folder.rglob("*") if path.suffix in SUFFIXES]
        paths.sort(key=lambda path: (package_of(path), path))
        for package, group in groupby(paths, package_of):
            print("### The package itself\n" if package == "." else f"### `{package}/`\n")
            for path in group:
                name = path.relative_to(PACKAGE if folder == PACKAGE else ROOT)
                print(f"- `{name.as_posix()}`: {summary(path)}")
            print()


if __name__ == "__main__":
    main()
