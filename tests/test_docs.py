"""Docs that cannot lie: every snippet in README and docs/ runs.

Each page is played from top to bottom in one folder that holds a sample catalogue:
``python`` blocks in one interpreter, ``console`` blocks (lines after ``$ ``) in a shell.
A service that is started with ``&`` runs to the end of the page, at a port of its own: 8000 and
8001 stand for any that are free. A block after ``<!-- not run: reason -->`` is left out.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<skip><!-- not run: .+? -->\n)?^```(?P<kind>python|console)\n(?P<body>.*?)^```",
    re.DOTALL | re.MULTILINE,
)


START = """
import atexit, subprocess
def start(command):
    service = subprocess.Popen("exec " + command, shell=True, stderr=subprocess.PIPE, text=True)
    atexit.register(service.wait)
    atexit.register(service.terminate)
    assert " at http://" in service.stderr.readline(), service.stderr.read()
"""


def script_of(page: Path) -> str:
    """One Python program that plays a page."""
    parts = [START]
    for match in BLOCK.finditer(with_free_ports(page.read_text(encoding="utf-8"))):
        if match["skip"]:
            continue
        if match["kind"] == "python":
            parts.append(match["body"])
            continue
        commands = [line[2:] for line in match["body"].splitlines() if line.startswith("$ ")]
        for command in commands:
            command = command.replace("curl -s ", "curl -sS --fail ")
            if command.endswith(" &"):
                parts.append(f"start({command[:-2]!r})")
            else:
                parts.append(f"subprocess.run({command!r}, shell=True, check=True)")
    return "\n".join(parts)


def with_free_ports(text: str) -> str:
    """The page with ports that nobody else listens on."""
    text = text.replace(
        "fashionclip serve shop.lance &", "fashionclip serve shop.lance --port 8000 &"
    )
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        free = {"8000": one.getsockname()[1], "8001": two.getsockname()[1]}
    for port, other in free.items():
        text = re.sub(rf"(127\.0\.0\.1:|--port ){port}\b", rf"\g<1>{other}", text)
    return text


@pytest.fixture
def folder_with_sample(tmp_path: Path) -> Path:
    from fashionclip.sample import write_sample_catalog

    write_sample_catalog(tmp_path / "sample", n_products=60)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_snippet_of_a_page_runs(page, folder_with_sample):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [sys.executable, "-c", script_of(page)],
        cwd=folder_with_sample,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{page.name}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_link_into_the_repository_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target
