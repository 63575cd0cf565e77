"""The command line: help, exit statuses, standard output and standard error."""

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip.catalog.faults import read_faults
from fashionclip.cli import terminal
from fashionclip.cli.hits import Card, build_page
from fashionclip.cli.info import provenance
from fashionclip.cli.main import COMMANDS, program, run
from fashionclip.errors import CatalogError
from fashionclip.product import Reject
from fashionclip.rejects import RejectsFile

ROOT = Path(__file__).parents[1]


ROOT_CONTEXT = click.Context(program, info_name="fashionclip", **program.context_settings)


def every_command():
    """Each command and subcommand."""
    for name in COMMANDS:
        command = program.get_command(ROOT_CONTEXT, name)
        if isinstance(command, click.Group):
            for inner, subcommand in command.commands.items():
                yield pytest.param(subcommand, id=f"{name} {inner}")
        else:
            yield pytest.param(command, id=name)


def start(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "fashionclip.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; from fashionclip.cli.main import run; run(['--help']); "
        "heavy = {'torch', 'numpy', 'openvino', 'lance', 'pyarrow', 'rich', 'PIL'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.0  # 0.05 s on a quiet machine


def test_help_names_every_command_in_the_order_of_work(capsys):
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(f"  {name} ") for name in COMMANDS]
    assert places == sorted(places)


def test_the_version_is_that_of_the_package(capsys):
    import fashionclip

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"fashionclip {fashionclip.__version__}\n"


@pytest.mark.parametrize("command", list(every_command()))
def test_every_command_shows_examples_and_prints_json(command):
    help_text = command.get_help(click.Context(command, parent=ROOT_CONTEXT))
    assert "Examples:" in help_text
    assert "$ fashionclip " in help_text
    assert "--json" in help_text


def test_the_page_about_the_command_line_is_what_the_program_says():
    written = runpy.run_path(str(ROOT / "scripts" / "write_cli_docs.py"))["cli_docs"]()
    stale = "docs/cli.md is stale; run: python scripts/write_cli_docs.py"
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == written, stale


def test_a_slip_of_the_keys_is_wrong_usage_and_names_the_nearest_command(capsys):
    assert run(["serach"]) == 2
    assert "no command 'serach'; did you mean 'search'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--colour"],
        ["index"],
        ["index", "shop.csv"],
        ["index", "shop.csv", "--into", "shop.lance", "--column", "SKU"],
        ["search", "shop.lance"],
        ["search", "shop.lance", "jeans", "--k", "0"],
        ["tag", "shop.csv"],
        ["embed", "--out", "vectors.npz"],
        ["catalog", "mend", "shop.csv"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(words, capsys):
    assert run(words) == 2
    assert "Error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CatalogError("no table at shop.csv;\ncheck the path"), "no table at shop.csv; check the"),
        (OSError(28, "No space left on device", "a.npz"), "No space left on device (a.npz)"),
        (ZeroDivisionError("division by zero"), "unexpected ZeroDivisionError: division by zero"),
    ],
    ids=["ours", "system", "unexpected"],
)
def test_an_error_is_one_line_on_stderr_and_status_1(error, line, capsys, failing_command):
    failing_command(error)
    assert run(["fail"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: {line}")
    assert output.err.count("\n") == 1


def test_debug_shows_where_an_error_comes_from(failing_command):
    failing_command(CatalogError("no table"))
    with pytest.raises(CatalogError, match="no table"):
        run(["fail", "--debug"])


def test_ctrl_c_is_status_130_and_says_how_to_go_on(capsys, failing_command):
    failing_command(KeyboardInterrupt())
    assert run(["fail"]) == 130
    assert "interrupted; give the same command again" in capsys.readouterr().err


@pytest.fixture
def failing_command(monkeypatch):
    """Add a command ``fail`` that raises a given error."""
    from types import ModuleType

    def put(error):
        @click.command()
        def command():
            raise error

        module = ModuleType("fashionclip.cli.fail")
        module.command = command
        monkeypatch.setitem(COMMANDS, "fail", "Fail.")
        monkeypatch.setitem(sys.modules, "fashionclip.cli.fail", module)

    return put


@pytest.mark.skipif(os.name != "posix", reason="a pipe of a POSIX shell")
def test_a_reader_that_leaves_early_is_no_error():
    pipe = f"{sys.executable} -m fashionclip.cli --help | true"
    done = subprocess.run(pipe, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_json_is_one_line_for_programs_and_knows_no_nan(capsys):
    terminal.write_json({"price": float("nan"), "name": "Röhrenjeans", "sizes": (1, 2)})
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == {"price": None, "name": "Röhrenjeans", "sizes": [1, 2]}


def test_a_catalogue_cannot_steer_the_terminal(capsys):
    terminal.show_table(["title"], [["\x1b[31mred\x1b[0m [bold]shirt[/bold]"]])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[bold]shirt[/bold]" in shown


def test_rejects_of_one_kind_are_one_line_that_names_the_first(capsys, tmp_path):
    path = tmp_path / "rejects.jsonl"
    rejects = [Reject(row, None, None, "no picture \ud800") for row in range(1, 6)]
    with RejectsFile(path) as file:
        for reject in rejects:
            file.add(reject)
    terminal.say_faults(read_faults(path))
    output = capsys.readouterr().err
    assert "rejected 5: no picture" in output
    assert "row 1" in output


@pytest.mark.parametrize(
    ("header", "mapped", "is_reported"),
    [
        ("sku,wording,image", (), True),
        ("sku,wording,image", ("--column", "title=wording"), False),
        ("sku,title,image", (), False),
    ],
)
def test_a_catalogue_whose_words_are_not_found_is_reported(
    header, mapped, is_reported, capsys, tmp_path
):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    table = tmp_path / "shop.csv"
    table.write_text(f"{header}\n1,red shirt,a.png\n", encoding="utf-8")
    assert run(["catalog", "check", str(table), *mapped]) == 0
    assert ("--column title=NAME" in capsys.readouterr().out) is is_reported


def test_further_images_take_several_columns_and_other_roles_the_last(capsys, tmp_path):
    table = tmp_path / "shop.csv"
    table.write_text("sku,title,a,b\n1,red shirt,a.png,b.png\n", encoding="utf-8")
    columns = ("further_images=a", "further_images=b", "image=b", "image=a")
    run(["catalog", "check", str(table), "--json", *(f"--column={pair}" for pair in columns)])
    roles = json.loads(capsys.readouterr().out)["roles"]
    assert roles["further_images"] == ["a", "b"]
    assert (roles["image"], roles["id"], roles["group"]) == ("a", "sku", None)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("provenance: made of a, which\n  seems to be b", "made of a, which seems to be b"),
        ("base_model: owner/model", "owner/model"),
        ("base_model:\n  - one/a\n  - two/b", "one/a, two/b"),
        ("license: mit", None),
        ("base_model: [", None),
    ],
)
def test_a_model_says_what_it_was_made_of(metadata, expected):
    assert provenance(f"---\n{metadata}\n---\n\n# A model\n") == expected
    assert provenance("# A model\n") is None


def test_progress_is_silent_where_stderr_is_no_terminal(capsys):
    with terminal.progress("Embedding", total=10) as update:
        update(5, 1, None)
    assert capsys.readouterr().err == ""


def test_a_page_escapes_words_and_shows_hits_whose_image_is_broken():
    card = Card("<1>", "<script>alert(1)</script>", 0.5, [("a&b", "<c>")], b"no picture")
    page = build_page([card], heading='"jeans" & <more>', facts=["<fact>"])
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<dt>a&amp;b</dt><dd>&lt;c&gt;</dd>" in page
    assert "no picture" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_page_holds_its_images_itself_in_small():

    from PIL import Image

    noise = image_bytes(Image.effect_noise((2000, 1500), 40).convert("RGB"), quality=95)
    page = build_page([Card("1", "noise", 0.5, [], noise)], heading="noise")
    assert "data:image/jpeg;base64," in page
    assert len(page) < 200_000 < len(noise)


def test_every_style_of_prompts_is_an_option():
    from fashionclip.cli.evaluate import command
    from fashionclip.evaluate.prompts import STYLES

    prompts = next(option for option in command.params if option.name == "prompts")
    assert tuple(prompts.type.choices) == STYLES


def test_damaged_metadata_of_an_image_is_not_reported(tmp_path):
    image = Image.new("RGB", (40, 20), "red")
    image.save(tmp_path / "1.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    (tmp_path / "shop.csv").write_text("id,title,image\n1,tee,1.jpg\n")
    done = start("catalog", "check", str(tmp_path / "shop.csv"))
    assert done.returncode == 0
    assert done.stderr.startswith("1 product of 1 row can be indexed")  # and no line before it
