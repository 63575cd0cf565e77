"""The plan in docs/scale.md is what its script prints, and its figures follow from one another."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"<!-- markdown of: python benchmarks/scale_plan.py -->\n(.*?)\n<!-- end -->", re.DOTALL
)


def plan(*options):
    """What the script prints."""
    command = [sys.executable, "benchmarks/scale_plan.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def table(text, title):
    """The cells of the table below a title, row by row."""
    lines = text.split(f"**{title}")[1].split("\n\n")[1].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def shown():
    (block,) = BLOCK.findall((ROOT / "docs" / "scale.md").read_text("utf-8"))
    return block


def test_the_page_shows_what_the_script_prints(shown):
    assert shown == plan()


def test_figures_grow_with_the_products(shown):
    heads = ("Bytes", "Embedding", "Search")
    products = [[row[0] for row in table(shown, head)] for head in heads]
    assert products == [[f"{10**exponent:,}" for exponent in range(4, 11)]] * 3
    machines = [int(row[4].replace(",", "")) for row in table(shown, "Search")]
    assert machines == sorted(machines)
    steps = [int(row[0].replace(",", "")) for row in table(shown, "What changes")]
    assert steps == sorted(steps)
    assert len(steps) == 8


def test_a_price_and_a_rate_of_ones_own_change_the_cost(shown):
    before = table(shown, "Embedding")[-1]
    after = table(plan("--price", "1.60", "--images-per-s", "748.8"), "Embedding")[-1]
    assert after[4] == before[4]  # twice the price, half the hours
    assert float(after[1].replace(",", "")) * 2 == pytest.approx(
        float(before[1].replace(",", "")), rel=0.001
    )
