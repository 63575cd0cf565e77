"""The package's structure: layers, a light import, and no changes to the host process.

Docstrings, printing, the environment and relative imports are ruff's; that no module imports the
package's public names is import-linter's.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

import fashionclip
from fashionclip.images.connected import connected_parts

PACKAGE = Path(fashionclip.__file__).parent
ROOT = PACKAGE.parents[1]


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_imports_run_down_the_layers():
    done = run_python(
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "numpy", "openvino", "lance", "psycopg", "pyarrow", "transformers", "PIL")
    done = run_python(f"import sys, fashionclip; print(sorted(set({heavy}) & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stderr


EVERYTHING = """
import json, os, sys
before = dict(os.environ)
import fashionclip
from fashionclip.images.connected import connected_parts
for name in fashionclip.__all__:
    getattr(fashionclip, name)
fakes = sorted(name for name, module in sys.modules.items() if module is None)
names = {*before, *os.environ}
changed = sorted(name for name in names if before.get(name) != os.environ.get(name))
print(json.dumps({"fakes": fakes, "changed": changed}))
"""


def test_loading_every_public_name_leaves_the_environment_and_other_modules_as_they_were():
    done = run_python(EVERYTHING)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"fakes": [], "changed": []}


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="no attribute 'Fashion'"):
        _ = fashionclip.Fashion


def test_the_layers_of_the_architecture_page_are_the_packages_there_are():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = page.partition("| layer | package |")[2].partition("\n\n")[0]
    cells = " ".join(line.split("|")[2] for line in table.splitlines() if line.count("|") > 3)
    described = {name.strip("/") for name in re.findall(r"`([\w./]+)`", cells)}
    packages = {
        path.name
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert described == packages - {"__init__.py"}


def test_the_list_of_modules_is_up_to_date():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = page.partition("<!-- markdown of: python scripts/list_modules.py -->\n")[2]
    done = subprocess.run(
        [sys.executable, "scripts/list_modules.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert block.partition("<!-- end -->")[0] == done.stdout.rstrip("\n") + "\n", (
        "write it: python scripts/write_output.py list_modules"
    )


def test_array_shapes_are_checked_while_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        connected_parts(np.zeros(3, bool))
