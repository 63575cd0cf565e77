"""``fashionclip publish``: publish a run's chosen checkpoint to a folder or the hub."""

import os
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import examples, json_option, require_extra
from fashionclip.errors import FashionCLIPError

if TYPE_CHECKING:
    from fashionclip.evaluate.tasks import ImageRef
    from fashionclip.publish.parity import Parity
    from fashionclip.train.run import RunFolder


@click.command(
    epilog=examples(
        "$ fashionclip publish runs/first --to my-model",
        "$ fashionclip audit runs/first/selected --catalog shop.csv --out runs/audit",
        "$ fashionclip publish runs/first --to my-model --audit runs/audit",
        "$ fashionclip publish runs/first --to hub --name my-shop/fashion-clip --license mit",
        "$ fashionclip search shop.lance 'red dress' --model my-model",
    )
)
@click.argument("run", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--to", required=True, metavar="DIR|hub", help="Folder to write, or 'hub'.")
@click.option("--name", metavar="OWNER/MODEL", help="Repository on the hub; also for the card.")
@click.option("--title", metavar="TEXT", help="Heading of the card; from the name if not given.")
@click.option(
    "--license", metavar="ID", help="The hub's name of the licence, such as mit; or 'other'."
)
@click.option("--language", metavar="CODE", help="Language of the texts, such as en.")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar="NAME",
    help="Training data set on the hub. Repeatable.",
)
@click.option(
    "--audit",
    "audits",
    multiple=True,
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    metavar="DIR",
    help="Folder of 'fashionclip audit' or 'fashionclip probe' of the chosen checkpoint, whose "
    "figures the card's limitations have. Repeatable.",
)
@click.option("--private", is_flag=True, help="Make a new repository private.")
@json_option
def command(run: Path, audits: tuple[Path, ...], as_json: bool, **given: Any) -> None:  # noqa: ANN401 - PublishConfig's keys
    """Publish a run's chosen checkpoint.

    RUN is a folder of 'fashionclip train'. The published folder loads in transformers unchanged,
    contains the model as OpenVINO and ONNX too, and has a model card made from the run's
    measurements. Each export is compared with the model on held-out images, if the run's data are
    still there. Defaults are in the run's recipe, under [publish].
    """
    require_extra("train", "onnx", "torch")
    from fashionclip.evaluate.results import read_run
    from fashionclip.publish.publish import publish_run
    from fashionclip.train.recipe import PublishConfig, read_recipe
    from fashionclip.train.run import RunFolder

    begun = perf_counter()
    folder = RunFolder(run)
    asked = read_recipe(folder.recipe).publish if folder.recipe.exists() else PublishConfig()
    config = asked.model_copy(update={key: value for key, value in given.items() if value})
    published = publish_run(
        folder,
        config,
        pictures=held_out_images(folder),
        audits=[read_run(path) for path in audits],
        token=os.environ.get("HF_TOKEN"),
        on_step=terminal.talk,
    )
    if as_json:
        fields = [parity_fields(parity) for parity in published.parity]
        terminal.write_json({"place": published.place, "parity": fields})
    else:
        show_parity(published.parity)
    terminal.say_counts(f"published at {published.place}", seconds=perf_counter() - begun)


def held_out_images(run: "RunFolder") -> "list[ImageRef]":
    """Test images of the run's data; none if the data are no longer there."""
    from fashionclip.train.tune import read_test_images

    try:
        return read_test_images(run)
    except FashionCLIPError as error:
        terminal.warn(f"exports are compared on generated products instead: {error}")
        return []


def parity_fields(parity: "Parity") -> dict[str, object]:
    """A comparison as plain values."""
    return {
        "export": parity.name,
        "least_cosine_of_pictures": parity.images,
        "least_cosine_of_texts": parity.texts,
        "same_best_caption": parity.same_best,
        "n": parity.n,
    }


def show_parity(rows: "tuple[Parity, ...]") -> None:
    """Print how close each export is."""
    cells = [
        [
            row.name,
            f"{row.images:.6f}",
            "" if row.texts is None else f"{row.texts:.6f}",
            f"{100 * row.same_best:.1f} %",
            str(row.n),
        ]
        for row in rows
    ]
    headings = ["export", "least cosine: pictures", "texts", "same best caption", "n"]
    terminal.show_table(headings, cells, numbers=headings[1:])
