"""The documentation is true: snippets run, links resolve, the site builds.

Each page is run from top to bottom, in a folder that holds only the sample catalogue, made by the
command that the page states: ``python`` blocks and commands of ``fashionclip`` in one interpreter,
what else is after ``$ `` in ``console`` blocks in a shell. A service that is started with ``&``
runs to the end of the page, on a free port instead of 8000 or 8001,
``postgresql://localhost/shop`` is a real database, and ``s3://shops`` a bucket of a server here. A
block after ``<!-- not run: reason -->`` is left out.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from fashionclip.store.filters import parse_filter
from fashionclip.train.recipe import recipe_keys

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
SAMPLE = "fashionclip demo --into sample"
DATABASE = "postgresql://localhost/shop"
BUCKET = "s3://shops"
INCLUDED = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")
BLOCK = re.compile(
    r"(?P<skip><!-- not run: .+? -->\n)?^```(?P<kind>python|console)\n(?P<body>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
NEEDS_NO_SHELL = re.compile(rf"fashionclip (?!.*{DATABASE})[^|;>$*`\\]+")
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
START = """
import atexit, subprocess
from fashionclip.cli.main import run
def command(*words):
    assert run(words) == 0, words
def start(command):
    service = subprocess.Popen("exec " + command, shell=True, stderr=subprocess.PIPE, text=True)
    atexit.register(service.wait)
    atexit.register(service.terminate)
    assert " at http://" in service.stderr.readline(), service.stderr.read()
"""


def ids(pages):
    return [str(page.relative_to(ROOT).with_suffix("")) for page in pages]


def blocks(page):
    """The snippets of a page that run: pairs of kind and text."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [(match["kind"], match["body"]) for match in found if not match["skip"]]


RUN_PAGES = [page for page in PAGES if blocks(page)]
SAMPLE_PAGES = [page for page in RUN_PAGES if any("sample/" in body for _, body in blocks(page))]


def program_of(page):
    """One Python program that runs the snippets of a page."""
    parts = [START]
    for kind, body in blocks(page):
        if kind == "python":
            parts.append(body)
            continue
        for command in (line[2:] for line in body.splitlines() if line.startswith("$ ")):
            command = command.replace("curl -s ", "curl -sS --fail ")
            if command.endswith(" &"):
                parts.append(f"start({command[:-2]!r})")
            elif NEEDS_NO_SHELL.fullmatch(command):
                parts.append(f"command(*{shlex.split(command)[1:]})")
            else:
                parts.append(f"subprocess.run({command!r}, shell=True, check=True)")
    return with_free_ports("\n".join(parts))


def with_free_ports(program):
    """The program with ports that are free instead of 8000 and 8001."""
    program = re.sub(r"(fashionclip serve \S+)'", r"\1 --port 8000'", program)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        free = {"8000": one.getsockname()[1], "8001": two.getsockname()[1]}
    for port, other in free.items():
        program = re.sub(rf"(127\.0\.0\.1:|--port ){port}\b", rf"\g<1>{other}", program)
    return program


def with_database(program, request):
    """The program with the URI of an empty database instead of the one on the pages."""
    if DATABASE not in program:
        return program
    uri = request.getfixturevalue("postgres_server").new_database("docs")
    program = re.sub(rf'"?{DATABASE}\?store=(\w+)"?', rf'"{uri}&store=\1"', program)
    return program.replace(DATABASE, f'"{uri}"')


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    subprocess.run(
        SAMPLE, shell=True, check=True, cwd=folder, env=os.environ | ENVIRONMENT, timeout=120
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES, ids=ids(RUN_PAGES))
def test_every_snippet_of_a_page_runs(page, sample, tmp_path, request):
    folder = shutil.copytree(sample, tmp_path / "start")
    if BUCKET in program_of(page):
        request.getfixturevalue("s3_bucket")  # sets the environment
    done = subprocess.run(
        [sys.executable, "-c", with_database(program_of(page), request)],
        cwd=folder,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{page.name}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", SAMPLE_PAGES, ids=ids(SAMPLE_PAGES))
def test_a_page_says_how_to_make_the_sample_before_it_uses_it(page):
    text = page.read_text(encoding="utf-8")
    assert SAMPLE in text[: text.index("sample/")]


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_every_link_into_the_repository_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_filter_of_the_search_page_is_understood():
    section = (DOCS / "search.md").read_text("utf-8").split("| form | example |")[1]
    rows = [line.split("|")[2] for line in section.partition("\n\n")[0].splitlines()[2:]]
    examples = [found for row in rows for found in re.findall(r"`([^`]{8,})`", row)]
    text = ("gender", "season", "brand", "title", "materials")
    columns = {"price": "number", "list_price": "number", "on_sale": "boolean"}
    assert len(examples) >= 12
    for example in examples:
        parse_filter(example, columns | dict.fromkeys(text, "string"))


def test_every_shown_output_is_that_of_a_script_or_command_that_exists():
    for page in PAGES:
        for command in re.findall(
            r"^<!-- \w+ of: (.+) -->$", page.read_text("utf-8"), re.MULTILINE
        ):
            program, first = command.split()[:2]
            assert program in {"fashionclip", "python", "sed"}
            assert program != "python" or (ROOT / first).exists(), command


def test_every_recipe_key_on_a_page_exists():
    known = {f"{key.group}.{key.name}" for key in recipe_keys()}
    groups = "|".join(sorted({name.partition(".")[0] for name in known}))
    used = re.compile(rf"(?:--|`)((?:{groups})\.[a-z_]+)(?= |`)")
    pages = [DOCS / f"{name}.md" for name in ("learning", "selection", "training")]
    found = {key for page in pages for key in used.findall(page.read_text(encoding="utf-8"))}
    assert len(found) > 20
    assert found - known <= {"cost.json", "selection.md"}


def test_the_install_page_names_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = (DOCS / "install.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(named) == sorted(project["optional-dependencies"])


def pages_of(nav):
    """The files that a navigation names."""
    for entry in nav:
        (value,) = entry.values()
        yield from [value] if isinstance(value, str) else pages_of(value)


def test_the_navigation_of_the_site_names_every_page():
    named = list(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.safetensors"))
    for name in ("mkdocs.yml", *INCLUDED):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        ["zensical", "build", "--strict"],
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = list((tmp_path / "site").rglob("*.html"))
    assert len(built) >= len(PAGES) - 1
    loaded = re.compile(r'(?:<script[^>]*\ssrc|<link[^>]*\shref|<img[^>]*\ssrc)="?(?:https?:)?//')
    assert [page.name for page in built if loaded.search(page.read_text(encoding="utf-8"))] == []
