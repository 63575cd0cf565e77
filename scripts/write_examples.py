"""Run the notebooks in examples/, and write them with their outputs into docs/examples/.

    python scripts/write_examples.py             # every notebook
    python scripts/write_examples.py search      # those whose name contains this word

A notebook is a Python file with cells (``# %%``), which jupytext and editors open as one. It runs
in an empty folder that has the sample catalogue, as ``fashionclip demo --into sample`` makes it.
"""

import base64
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "examples"
DATA_URI = re.compile(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)")
ENVIRONMENT = {
    "NO_COLOR": "1",
    "PYTHONWARNINGS": "ignore",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def write(source: Path, folder: Path) -> None:
    """Run a notebook in a folder, and write its page and the page's images."""
    notebook = jupytext.read(source)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # progress and warnings differ from run to run
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    name = source.stem
    page, resources = MarkdownExporter().from_notebook_node(
        notebook, resources={"output_files_dir": f"{name}_files"}
    )
    images: dict[str, bytes] = dict(resources["outputs"])

    def to_file(match: re.Match[str]) -> str:
        path = f"{name}_files/hit-{len(images)}.{match[1]}"
        images[path] = base64.b64decode(match[2])
        return path

    page = DATA_URI.sub(to_file, page).replace(f"{folder}/", "")
    lines = [line.rstrip() for line in page.splitlines()]
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob(f"{name}_files/*"):
        old.unlink()
    for path, content in images.items():
        if path not in page:  # another format of the same image
            continue
        (OUT / path).parent.mkdir(exist_ok=True)
        (OUT / path).write_bytes(content)
    note = f"<!-- written by scripts/write_examples.py from examples/{source.name} -->"
    text = "\n".join([note, *lines])
    (OUT / f"{name}.md").write_text(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", "utf-8")


def main() -> None:
    os.environ.update(ENVIRONMENT)
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for source in sorted((ROOT / "examples").glob("*.py")):
        if wanted not in source.stem:
            continue
        with tempfile.TemporaryDirectory() as folder:
            command = ["fashionclip", "demo", "--into", "sample"]
            subprocess.run(command, check=True, cwd=folder, capture_output=True)
            write(source, Path(folder))
        print(source.name, flush=True)


if __name__ == "__main__":
    main()
