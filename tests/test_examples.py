"""The pages of docs/examples/ are the notebooks of examples/, with outputs.

That the notebooks run is tested with every other page's snippets, in ``test_docs.py``.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.py"))


def cells(notebook):
    """The cells of a notebook: pairs of whether it is text, and its source."""
    for part in re.split(r"^# %%", notebook.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        mark, _, body = part.partition("\n")
        if "[markdown]" in mark:
            body = re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        yield "[markdown]" in mark, body.strip()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[one.stem for one in NOTEBOOKS])
def test_a_page_has_every_cell_of_its_notebook_and_no_other(notebook):
    page = (ROOT / "docs" / "examples" / f"{notebook.stem}.md").read_text("utf-8")
    code = [body for is_text, body in cells(notebook) if not is_text]
    assert [found.strip() for found in re.findall(r"```python\n(.*?)```", page, re.DOTALL)] == code
    assert all(body in page for is_text, body in cells(notebook) if is_text)


def test_every_notebook_has_a_page_and_every_page_a_notebook():
    pages = {page.stem for page in (ROOT / "docs" / "examples").glob("*.md")}
    assert pages == {notebook.stem for notebook in NOTEBOOKS}
