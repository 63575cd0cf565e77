"""``fashionclip localize``: where in images words are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    examples,
    json_option,
    model_options,
    open_model,
    private_option,
    stop_for_usage,
)

MAX_SHOWN_IMAGES = 10  # in the terminal; --out and --json have them all
MAX_SHOWN_BOXES = 3


@click.command(
    epilog=examples(
        "$ fashionclip localize photo.jpg sleeve collar",
        '$ fashionclip localize photo.jpg "ankle boots" --contrast sandals --windows 2 --out maps/',
        "$ fashionclip localize a.jpg b.jpg photos/ bag --out maps/",
        "$ fashionclip localize photo.jpg bag --json",
    )
)
@click.argument("arguments", nargs=-1, required=True, metavar="IMAGE|FOLDER... WORD...")
@click.option(
    "--contrast",
    multiple=True,
    metavar="TEXT",
    help="What else there may be, in place of the usual list: each word is compared with it. "
    "Repeatable.",
)
@click.option(
    "--windows",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="2 also looks through windows at twice the size: slower, for smaller things.",
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a picture of each word, arrays (.npz) and JSON there. Run it again and what is "
    "there is left out.",
)
@model_options
@private_option
@json_option
def command(
    arguments: Sequence[str],
    contrast: Sequence[str],
    windows: int,
    folder: Path | None,
    model_name: str | None,
    device: str,
    precision: str,
    allow_private: bool,
    as_json: bool,
) -> None:
    """Find where in images words are: strength, boxes, and maps.

    The arguments are images, folders of images, or URLs, then words. A word's strength is in 0 to
    1, on a scale that is the same for all images; below 0.5 it is not in the picture.
    """
    from fashionclip.errors import FashionCLIPError
    from fashionclip.images.fetch import FetchPolicy
    from fashionclip.localization import CONTRASTS, check_texts
    from fashionclip.localization.files import names_of

    locations, words = _split(arguments)
    try:
        check_texts(words, "words")
        others = check_texts(contrast, "contrast") if contrast else CONTRASTS
    except ValueError as exc:
        stop_for_usage(str(exc))
    begun = perf_counter()
    model = open_model(model_name, device=device, precision=precision)
    policy = FetchPolicy(allow_private=allow_private)
    found: list[Mapping[str, Any]] = []
    rejected: list[dict[str, str]] = []
    n_reused = 0
    with terminal.progress("Locating", total=len(locations), noun="images") as update:
        for location, name in zip(locations, names_of(locations), strict=True):
            try:
                facts, was_there = _one(
                    model, location, name, words, others, windows, folder, policy
                )
                found.append(facts)
                n_reused += was_there
            except FashionCLIPError as exc:
                rejected.append({"image": location, "reason": str(exc)})
            except ValueError as exc:  # of the words, so it is the same for every image
                stop_for_usage(str(exc))
            update(len(found) + len(rejected), len(rejected), None)
    if as_json:
        terminal.write_json(
            {
                "model": model.name,
                "contrast": list(others),
                "windows": windows,
                "images": found,
                "reused": n_reused,
                "rejected": rejected,
                "seconds": round(perf_counter() - begun, 3),
            }
        )
    else:
        _show(found)
    for reject in rejected[: terminal.MAX_SHOWN_FAULTS]:
        terminal.talk(f"  rejected {reject['image']}: {reject['reason']}")
    terminal.say_counts(
        f"{terminal.counted(len(words), 'word')} in {terminal.counted(len(found), 'image')}",
        f"{n_reused:,} of them from an earlier run" if n_reused else "",
        f"{len(rejected):,} rejected" if rejected else "",
        f"files in {folder}" if folder and found else "",
        seconds=perf_counter() - begun,
    )
    if not found:
        click.get_current_context().exit(1)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images and words: the first argument and what looks like an image, a folder or a URL."""
    from fashionclip.images import IMAGE_SUFFIXES
    from fashionclip.images.fetch import is_url

    locations: list[str] = []
    words: list[str] = []
    for i, argument in enumerate(arguments):
        is_place = is_url(argument) or argument.lower().endswith(IMAGE_SUFFIXES)
        if i and not is_place and "/" not in argument:
            words.append(argument)
        elif not is_url(argument) and _is_folder(argument):
            files = sorted(path for path in Path(argument).rglob("*") if path.is_file())
            images = [str(path) for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
            if not images:
                stop_for_usage(f"the folder {argument} has no image")
            locations += images
        else:
            locations.append(argument)
    for word in words:
        if _is_folder(word):
            terminal.talk(f"note: {word!r} is read as a word; for the folder write {word}/")
    if not words:
        stop_for_usage(f"say what to look for, such as: fashionclip localize {arguments[0]} sleeve")
    return locations, words


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except OSError:  # a text longer than any path
        return False


def _one(
    model: Any,  # noqa: ANN401 - a FashionCLIP, whose import loads the engine
    location: str,
    name: str,
    words: Sequence[str],
    contrast: Sequence[str],
    windows: int,
    folder: Path | None,
    policy: Any,  # noqa: ANN401 - a FetchPolicy
) -> tuple[Mapping[str, Any], bool]:
    """What was found in one image, and whether an earlier run had found it."""
    from fashionclip.images.decode import open_image
    from fashionclip.images.fetch import read_image_bytes
    from fashionclip.localization import facts_of, files

    data = read_image_bytes(location, policy=policy)
    key = files.key_of(data, model.fingerprint, words, contrast, windows)
    if folder is not None:
        name = files.free_name(folder, name, location, key)
    if folder is not None and (earlier := files.read_facts(folder, name, key)):
        return {**earlier, "image": location}, True
    image = open_image(data)
    found = model.localize(image, words, contrast=contrast, windows=windows)
    facts = {"image": location, **facts_of(found)}
    if folder is None:
        return facts, False
    return files.write_files(folder, name, {**facts, "key": key}, found, image), False


def _show(found: Sequence[Mapping[str, Any]]) -> None:
    """Print a table: image, word, strength, and boxes or that the word is not there."""
    rows = [
        (
            Path(facts["image"]).name if i == 0 else "",
            word["word"],
            f"{word['score']:.2f}",
            _boxes(word["boxes"]) if word["is_found"] else "not in the picture",
        )
        for facts in found[:MAX_SHOWN_IMAGES]
        for i, word in enumerate(facts["words"])
    ]
    if rows:
        columns = ["image", "word", "strength", "boxes (left, top, right, bottom)"]
        terminal.show_table(columns, rows, numbers=["strength"])
    if len(found) > MAX_SHOWN_IMAGES:
        terminal.talk(f"the first {MAX_SHOWN_IMAGES} of {len(found):,}; --json has all of them")


def _boxes(boxes: Sequence[Mapping[str, Any]]) -> str:
    corners = [
        f"{box['left']},{box['top']},{box['right']},{box['bottom']}"
        for box in boxes[:MAX_SHOWN_BOXES]
    ]
    more = f" and {len(boxes) - MAX_SHOWN_BOXES} more" if len(boxes) > MAX_SHOWN_BOXES else ""
    return "  ".join(corners) + more if corners else "too small for a box"
