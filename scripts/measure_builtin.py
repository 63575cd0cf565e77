"""Measure a model on what the built-in one was not trained on, and write the card's figures.

    python scripts/measure_builtin.py --kagl DIR --clothing DIR [--fmnist DIR] [--model FOLDER]
    python scripts/measure_builtin.py ... --card src/fashionclip/builtin/README.md

Held out are whole brands of the catalogue and whole senders of the photographs (see
``builtin_data.py``). Everything goes through the library, as a user's pictures and words do.
Fashion-MNIST (Debian: ``dataset-fashion-mnist``) is measured only, never trained on.
"""

import argparse
import gzip
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from builtin_data import Item, article_words, read_clothing, read_kagl

from fashionclip.model import FashionCLIP
from fashionclip.sample import CATEGORIES, COLOURS, PATTERNS, draw_products, sample_products
from fashionclip.texts import build_caption

FMNIST_LABELS = (
    *("t-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
FEWEST = 10  # held-out products that a class or a query needs to be measured
TEMPLATES = "ensemble"
OPENING, CLOSING = "<!-- figures: scripts/measure_builtin.py -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Figure:
    """One line of the card."""

    what: str
    value: float
    baseline: float
    baseline_is: str
    n_items: int


def main() -> None:
    """Measure, print, and write the card if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="a checkpoint folder; default: built-in")
    parser.add_argument("--kagl", type=Path)
    parser.add_argument("--clothing", type=Path)
    parser.add_argument("--fmnist", type=Path, help="folder of the IDX files")
    parser.add_argument("--card", type=Path, help="write the figures into this model card")
    args = parser.parse_args()
    model = FashionCLIP.from_pretrained(args.model)
    begin, figures = time.perf_counter(), []
    if args.kagl:
        figures += measure_catalogue(model, [i for i in read_kagl(args.kagl) if i.is_test])
    if args.clothing:
        figures.append(measure_clothing(model, read_clothing(args.clothing)))
    if args.fmnist:
        figures.append(measure_fmnist(model, args.fmnist))
    figures += measure_sample(model)
    table = as_table(figures)
    print(table)
    seconds = time.perf_counter() - begin
    print(f"\n{model.engine.device}, {model.engine.precision}, {seconds:.0f} s in all")
    if args.card:
        write_card(args.card, table)


def measure_catalogue(model: FashionCLIP, items: Sequence[Item]) -> list[Figure]:
    """Held-out brands: article types, captions that find their product, short queries."""
    pictures = model.encode_images([i.picture for i in items])
    types = [i.facets["type"] for i in items]
    common = [name for name, n in Counter(types).most_common() if n >= FEWEST]
    rows = [i for i, name in enumerate(types) if name in common]
    truth = [common.index(types[i]) for i in rows]
    guesses = guess(model, pictures[rows], [article_words(name)[0] for name in common])
    figures = [
        Figure(
            f"held-out brands: article type, {len(common)} types, weighted F1",
            weighted_f1(truth, guesses),
            weighted_f1(truth, [0] * len(truth)),
            "the commonest type",
            len(rows),
        )
    ]
    captions = [build_caption(i.highlights, i.title) for i in items]
    scores = model.encode_text(captions) @ pictures.T
    twins = np.array([c.casefold() for c in captions])
    relevant = twins[:, None] == twins[None]
    figures.append(
        Figure(
            "held-out brands: caption finds its product, recall@10",
            hit_rate(scores, relevant, k=10),
            float(np.mean(1 - (1 - relevant.mean(1)) ** 10)),
            "random order",
            len(items),
        )
    )
    figures.append(measure_queries(model, pictures, items))
    return figures


def measure_queries(model: FashionCLIP, pictures: np.ndarray, items: Sequence[Item]) -> Figure:
    """Queries such as "blue jeans": the share of the ten best that are both."""
    pairs = [(i.facets.get("colour", ""), i.facets["type"]) for i in items]
    asked = [pair for pair, n in Counter(pairs).items() if n >= FEWEST and pair[0]]
    queries = [f"{colour} {article_words(article)[0]}" for colour, article in asked]
    relevant = np.array([[pair == wanted for pair in pairs] for wanted in asked])
    best = np.argsort(-(model.encode_text(queries) @ pictures.T), axis=1)[:, :10]
    return Figure(
        f'held-out brands: {len(asked)} queries such as "{queries[0]}", precision@10',
        float(np.take_along_axis(relevant, best, axis=1).mean()),
        float(relevant.mean()),
        "random order",
        len(items),
    )


def measure_clothing(model: FashionCLIP, items: Sequence[Item]) -> Figure:
    """Held-out senders: the ten commonest labels."""
    labels = [n for n, _ in Counter(i.facets["garment"] for i in items).most_common(10)]
    chosen = [i for i in items if i.is_test and i.facets["garment"] in labels]
    truth = [labels.index(i.facets["garment"]) for i in chosen]
    pictures = model.encode_images([i.picture for i in chosen])
    guesses = guess(model, pictures, [article_words(label)[0] for label in labels])
    return Figure(
        "held-out senders' photographs: garment, 10 labels, weighted F1",
        weighted_f1(truth, guesses),
        weighted_f1(truth, [0] * len(truth)),
        "the commonest label",
        len(chosen),
    )


def measure_fmnist(model: FashionCLIP, folder: Path) -> Figure:
    """Fashion-MNIST's test pictures, turned to dark on white; nothing like them was trained on."""
    raw = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    truth = list(labels[8:])  # IDX: 8 bytes before labels, 16 before pictures
    pixels = 255 - np.frombuffer(raw, dtype=np.uint8, offset=16).reshape(-1, 28, 28)
    guesses = guess(model, model.encode_images(list(pixels)), FMNIST_LABELS)
    return Figure(
        "Fashion-MNIST test, zero-shot: 10 labels, weighted F1",
        weighted_f1(truth, guesses),
        weighted_f1(truth, [0] * len(truth)),
        "one label",
        len(truth),
    )


def measure_sample(model: FashionCLIP) -> list[Figure]:
    """The sample catalogue that ships (other products of the same generator were trained on)."""
    products = sample_products()
    pictures = model.encode_images(draw_products(len(products)))
    wholes = {
        "category": ({n: article_words(n)[0] for n in CATEGORIES}, "category"),
        "colour": ({n: f"{n} garment" for n in COLOURS}, "colour"),
        "pattern": ({n: f"{n} pattern" for n in PATTERNS}, "pattern"),
        "sleeve": (
            {"short": "short sleeves", "long": "long sleeves", "sleeveless": "sleeveless"},
            "sleeve",
        ),
    }
    figures = []
    for name, (words, attribute) in wholes.items():
        values = [getattr(p.attributes, attribute) for p in products]
        rows = [i for i, value in enumerate(values) if value is not None]
        truth = [list(words).index(values[i]) for i in rows]
        guesses = guess(model, pictures[rows], list(words.values()))
        commonest = Counter(truth).most_common(1)[0][1] / len(truth)
        figures.append(
            Figure(
                f"sample catalogue: {name}, {len(words)} labels, accuracy",
                float(np.mean(np.array(truth) == guesses)),
                commonest,
                "the commonest label",
                len(rows),
            )
        )
    return figures


def guess(model: FashionCLIP, pictures: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The label whose prompts are closest to each picture."""
    return np.argmax(pictures @ model.encode_text(labels, templates=TEMPLATES).T, axis=1)


def weighted_f1(truth: Sequence[int], guesses: Sequence[int] | np.ndarray) -> float:
    """F1 of each class, weighted by how often the class truly occurs; 0…1."""
    true, guessed = np.asarray(truth), np.asarray(guesses)
    total = 0.0
    for label in np.unique(true):
        hits = np.sum((true == label) & (guessed == label))
        total += (
            np.sum(true == label) * 2 * hits / (np.sum(true == label) + np.sum(guessed == label))
        )
    return float(total / len(true))


def hit_rate(scores: np.ndarray, relevant: np.ndarray, *, k: int) -> float:
    """Share of queries with something relevant among their k best."""
    best = np.argsort(-scores, axis=1)[:, :k]
    return float(np.take_along_axis(relevant, best, axis=1).any(axis=1).mean())


def as_table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | pictures | this model | without a model |", "|---|---|---|---|"]
    lines += [
        f"| {f.what} | {f.n_items:,} | {f.value:.3f} | {f.baseline:.3f} ({f.baseline_is}) |"
        for f in figures
    ]
    return "\n".join(lines)


def write_card(card: Path, table: str) -> None:
    """Put the table between the card's two marks.

    Raises:
        ValueError: the card lacks the marks.
    """
    text = card.read_text(encoding="utf-8")
    if OPENING not in text or CLOSING not in text:
        message = f"{card} lacks the lines '{OPENING}' and '{CLOSING}'; put them where it belongs"
        raise ValueError(message)
    before, rest = text.split(OPENING)
    card.write_text(
        f"{before}{OPENING}\n{table}\n{CLOSING}{rest.split(CLOSING)[1]}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
