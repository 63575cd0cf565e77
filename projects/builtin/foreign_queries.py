"""Measure searches in other languages: queries such as "white t-shirt", translated.

    python projects/builtin/foreign_queries.py MODEL --data DIR

prints precision@10 of the task ``kagl/held-out-colour-queries`` in English and with the usual words
of ``languages.tsv``, and of the ten queries of ``foreign_queries.tsv``: in the plural, with another
ending or another word. The right products are those of the English query.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from labels import SYNONYMS
from languages import LANGUAGES, foreign_phrase

from fashionclip import FashionCLIP
from fashionclip.evaluate.benchmarks import find_benchmark, find_folder
from fashionclip.evaluate.tasks import Retrieval
from fashionclip.metrics.intervals import mean_interval
from fashionclip.metrics.ranking import rank

TASK = "kagl/held-out-colour-queries"
K = 10
OTHERWISE = Path(__file__).with_suffix(".tsv")
"""Queries of the task as people write them too."""


def main() -> None:
    """Read the arguments, encode the products, and print a row per language."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="builtin", help="checkpoint to measure")
    parser.add_argument("--data", type=Path, required=True, help="folder with kagl/")
    args = parser.parse_args()
    kagl = find_benchmark("kagl")
    loaded = kagl.load(find_folder(kagl, args.data))
    task = next(one for one in loaded.tasks if isinstance(one, Retrieval) and one.name == TASK)
    model = FashionCLIP.from_pretrained(args.model)
    images = model.encode_images([image.source for image in task.documents])
    relevant = dict(zip(task.queries, task.relevant, strict=True))
    usual = {
        "en": {query: query for query in relevant},
        **{name: {query: translated(query, name) for query in relevant} for name in LANGUAGES},
    }
    with OTHERWISE.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file, delimiter="\t"))
    otherwise = {
        name: {record["en"]: record[name] for record in records} for name in ("en", *LANGUAGES)
    }
    for title, asked in (("usual words", usual), ("written otherwise", otherwise)):
        print(f"{title}, {len(asked['en'])} queries, {len(images):,} products")
        for name, texts in asked.items():
            found = precisions(model, images, [*texts.values()], [relevant[q] for q in texts])
            if name == "en":
                english = found
            low, high = mean_interval(found)
            ratio = found.mean() / english.mean()
            print(f"  {name}  {found.mean():.3f} [{low:.3f} to {high:.3f}]  {ratio:.0%} of English")


def translated(query: str, language: str) -> str:
    """A query of a colour and a category in the usual words of a language."""
    colour, _, name = query.partition(" ")
    category = next((names[0] for names in SYNONYMS.values() if name in names), name)
    return foreign_phrase({"category": category, "colour": colour}, language)


def precisions(
    model: FashionCLIP,
    images: np.ndarray,
    texts: Sequence[str],
    relevant: Sequence[np.ndarray],
) -> np.ndarray:
    """Precision@10 of each text ``(n,)`` among the images ``(m, dim)``."""
    rows = rank(model.encode_text(texts), images, K)
    return np.array([np.isin(row, right).mean() for row, right in zip(rows, relevant, strict=True)])


if __name__ == "__main__":
    main()
