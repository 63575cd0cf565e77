"""The house holds its shape: direction of imports, size of rooms, the public face."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fashionclip

PACKAGE = Path(fashionclip.__file__).parent
ROOMS = sorted(path for path in PACKAGE.rglob("*.py"))
LONGEST_ROOM = 420


def names(rooms):
    return [str(room.relative_to(PACKAGE)) for room in rooms]


def test_imports_run_down_the_floors():
    """The contracts in pyproject.toml, exhaustively: a room on no floor fails."""
    command = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    root = PACKAGE.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("room", ROOMS, ids=names(ROOMS))
def test_every_room_says_what_lives_there_and_fits_in_the_head(room):
    source = room.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source))
    assert len(source.splitlines()) <= LONGEST_ROOM


@pytest.mark.parametrize("room", ROOMS, ids=names(ROOMS))
def test_no_room_imports_the_public_face(room):
    for node in ast.walk(ast.parse(room.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module != "fashionclip" or room.parent.name == "cli"
        if isinstance(node, ast.Import):
            assert all(alias.name != "fashionclip" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS, ids=names(ROOMS))
def test_only_the_command_line_prints_and_reads_the_environment(room):
    if room.parent.name == "cli":
        return
    sets_lancedb = (room.parent.name, room.name) == ("index", "engine.py")
    for node in ast.walk(ast.parse(room.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            reads = (node.value.id, node.attr) in {("os", "environ"), ("os", "getenv")}
            assert not reads or sets_lancedb


def test_the_public_names_are_exactly_these():
    assert set(dir(fashionclip)) == set(fashionclip.__all__)
    assert sorted(fashionclip.__all__) == fashionclip.__all__
    assert all(getattr(fashionclip, name) is not None for name in fashionclip.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Fashion'"):
        _ = fashionclip.Fashion


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, fashionclip; "
        "heavy = {'torch', 'numpy', 'openvino', 'lancedb', 'pyarrow', 'transformers', 'PIL'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_floors_that_are_described_are_the_rooms_there_are():
    page = (PACKAGE.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = page.split("| floor | room |")[1].split("\n\n")[0]
    cells = " ".join(line.split("|")[2] for line in table.splitlines() if line.count("|") > 3)
    described = {name.strip("/") for name in re.findall(r"`([\w./]+)`", cells)}
    rooms = {p.name for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert described == rooms - {"__init__.py"}
