"""The built-in model: small, complete, readable by transformers, with one set of figures."""

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fashionclip.checkpoint import open_checkpoint
from fashionclip.evaluate.results import Figure, ModelInfo, Run, TaskResult
from fashionclip.model import FashionCLIP
from fashionclip.sample import generate_images, sample_products

ROOT = Path(__file__).parents[1]
MAX_BYTES = 45_000_000
FIGURE_ROW = re.compile(
    r"^\| (?:.* \()?`([\w/.-]+)`\)? \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE
)


@pytest.fixture(scope="module")
def model() -> FashionCLIP:
    return FashionCLIP.from_pretrained(precision="float32")


def folder() -> Path:
    return open_checkpoint().folder


def test_the_package_grows_by_no_more_than_forty_five_megabytes() -> None:
    assert sum(path.stat().st_size for path in folder().iterdir()) <= MAX_BYTES


def figures_on(page: str) -> dict[str, tuple[str, ...]]:
    """Task to metric, figure and figure on unseen items, as a page's table has them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text.partition("<!-- figures: ")[2].partition("<!-- end of figures -->")[0]
    return {task: tuple(found) for task, *found in FIGURE_ROW.findall(table)}


def test_its_card_names_the_licence_of_the_data_and_the_figure_on_fashion_mnist() -> None:
    card = open_checkpoint().card
    assert card.startswith("---\nlanguage: en\n")
    assert "Kaggle's listing calls the data set MIT" in card.replace("\n", " ")
    assert re.search(r"\(`fmnist`\) \| Weighted F1 \| 0\.\d{3} \[0\.\d{3} to 0\.\d{3}\]", card)


def test_the_card_and_the_documentation_give_the_same_figures() -> None:
    card = figures_on("src/fashionclip/builtin/README.md")
    page = figures_on("docs/benchmarks.md")
    assert len(card) > 15
    assert card == {task: page[task] for task in card}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    columns = [page["fmnist"][1], page["kagl/article-type"][1], "—"]
    assert f"| builtin | {' | '.join(columns)} |" in readme
    assert f"| builtin, unseen only | — | {page['kagl/article-type'][2]} | — |" in readme


@pytest.mark.parametrize("page", ["src/fashionclip/builtin/README.md", "docs/benchmarks.md"])
def test_the_figures_are_those_of_the_weights_that_ship(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"Weights {open_checkpoint().fingerprint}, cpu float32," in text


def test_the_figures_of_a_run_replace_those_between_the_marks(tmp_path: Path) -> None:
    names = runpy.run_path(str(ROOT / "projects" / "builtin" / "write_figures.py"))
    write_figures = SimpleNamespace(**names)
    result = TaskResult(
        *("kagl/colour", "zero-shot", "weighted_f1", 4, 0),
        figures={"weighted_f1": Figure(0.5, 0.25, 0.75, 4)},
        n_seen=1,
        unseen={"weighted_f1": Figure(0.25, 0.125, 0.5, 3)},
        details={"chance": {"weighted_f1": 0.1}, "prompts": {"chosen": "bare"}},
    )
    model = ModelInfo("builtin", "abc", 2, "cpu float32")
    run = Run((model,), {"builtin": (result,)}, {}, "2026-11-29T12:00:00+00:00", "0.1.0")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{write_figures.START}\nold\n{write_figures.END}\nafter\n")
    write_figures.write_block(page, write_figures.figures_table(run))
    lines = page.read_text().splitlines()
    assert [lines[0], lines[-1]] == ["before", "after"]
    assert "old" not in lines
    assert lines[4] == (
        "| `kagl/colour` | Weighted F1 | 0.500 [0.250 to 0.750], n = 4 "
        "| 0.250 [0.125 to 0.500], n = 3 | 0.100 |"
    )
    assert lines[6] == (
        "Weights abc, cpu float32, fashionclip 0.1.0, 29 November 2026. "
        "Styles of the prompts: `bare` for `kagl/colour`."
    )
    with pytest.raises(ValueError, match="the run lacks fmnist"):
        write_figures.figures_table(run, {"fmnist": "Fashion-MNIST"})


def test_goals_stand_beside_what_a_run_reached_on_images_that_are_new(tmp_path: Path) -> None:
    names = runpy.run_path(str(ROOT / "projects" / "builtin" / "write_figures.py"))
    goals_table, goals = names["goals_table"], names["GOALS"]
    reached = Figure(0.7504, 0.7, 0.8, 9)
    items = {
        "kagl/article-type": {
            "truth": ["Heels", "Flats", "Shirts", "Tops"],
            "predicted": ["Flats", "Flats", "Shirts", "Shirts"],
            "seen": [False, False, False, True],
        },
        "kagl/held-out-colour-queries": {
            "item": ["red flat shoes", "red shirt"],
            "precision@10": [0.7, 0.9],
        },
    }
    results = [
        TaskResult(
            *(goal.task, "zero-shot", goal.metric, 9, 0),
            figures={goal.metric: Figure(0.99, 0.9, 1, 9) if goal.is_of_unseen else reached},
            unseen={goal.metric: reached} if goal.is_of_unseen else {},
            items=items.get(goal.task, {}),
        )
        for goal in goals
    ]
    model = ModelInfo("builtin", "abc", 2, "cpu float32")
    run = Run((model,), {"builtin": tuple(results)}, {}, "2026-11-29T12:00:00+00:00", "0.1.0")
    lines = goals_table(run).splitlines()
    assert lines[-2] == (
        "Of the 1 wrong article types, 1 exchange heels, flats and sandals; with these three as "
        "one type, the figure is 1.000."
    )
    assert lines[-1] == "The 1 queries of shoes among the 2 have 3 of the 4 wrong hits."
    rows = [row.split(" | ") for row in lines[2:-3]]
    assert len(rows) == len(goals)
    for goal, row in zip(goals, rows, strict=True):
        assert f"`{goal.task}`" in row[0]
        assert row[3].startswith("0.750 ")
        assert row[4].split()[0] == ("yes" if goal.least <= 0.75 else "no")
    lacking = Run((model,), {"builtin": tuple(results[1:])}, {}, run.created, "0.1.0")
    with pytest.raises(ValueError, match="the run lacks fmnist"):
        goals_table(lacking)


@pytest.mark.parametrize("page", ["src/fashionclip/builtin/README.md", "README.md"])
def test_the_goals_on_a_page_have_the_figures_of_all_tasks(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    goals = text.partition("<!-- goals: ")[2].partition("<!-- end of goals -->")[0]
    figures = figures_on("docs/benchmarks.md")
    rows = [line for line in goals.splitlines() if "(`" in line]
    assert len(rows) == 11
    for row in rows:
        task, figure = re.search(r"\(`(.+)`\)", row)[1], row.split(" | ")[3]
        if row.split(" | ")[1] == figures[task][0]:
            assert figure in figures[task][1:]


def test_its_configuration_states_what_readers_would_take_from_defaults() -> None:
    config = json.loads((folder() / "config.json").read_text(encoding="utf-8"))
    end_id = open_checkpoint().tokenizer.end_id
    assert config["text_config"]["eos_token_id"] == end_id
    assert config["text_config"]["hidden_act"] == config["vision_config"]["hidden_act"] == "gelu"
    assert open_checkpoint().preprocess.fit == "stretch"  # as other processors can do it


def test_it_recognizes_the_colours_of_the_sample_catalogue(model: FashionCLIP) -> None:
    products = sample_products(60, seed=0)
    colours = sorted({p.attributes.colour for p in products})
    found = model.classify(generate_images(60, seed=0), [f"{c} garment" for c in colours])
    right = [
        found.label_names[int(row.argmax())] == f"{p.attributes.colour} garment"
        for p, row in zip(products, found.probabilities, strict=True)
    ]
    assert np.mean(right) > 0.4  # guessing gives 0.06


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # transformers warns about itself
def test_transformers_loads_it_unchanged_and_agrees(model: FashionCLIP) -> None:
    import torch
    from transformers import CLIPModel, CLIPProcessor

    other = CLIPModel.from_pretrained(folder(), dtype=torch.float32)
    processor = CLIPProcessor.from_pretrained(folder())
    images = generate_images(4)
    texts = ["blue denim jeans", "a photo of a red striped t-shirt, women's!", ""]
    with torch.no_grad():
        out = other(**processor(text=texts, images=images, padding=True, return_tensors="pt"))
    np.testing.assert_allclose(out.image_embeds.numpy(), model.encode_images(images), atol=1e-4)
    np.testing.assert_allclose(out.text_embeds.numpy(), model.encode_text(texts), atol=1e-4)
