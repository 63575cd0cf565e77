"""Linguistic sensitivity: how much the answers depend on the wording of a query.

Source: PinPoint (CVPR 2026): the largest less the smallest mean average precision over paraphrases.
Here it is taken query by query and averaged, so that wordings that suit different queries do not
cancel out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.evaluate.benchmarks.base import choose, group_by, is_plural
from fashionclip.evaluate.results import TaskResult
from fashionclip.evaluate.scoring import mean_figure, readable_images, seen_among
from fashionclip.evaluate.tasks import Encoder, ImageRef
from fashionclip.metrics.ranking import average_precision_at, expected_average_precision, rank
from fashionclip.probes.figures import MIN_ITEMS, nothing, result_of, too_few
from fashionclip.probes.products import ProductSet

HEADLINE = "sensitivity"
MIN_RELEVANT = 5
"""Products that answer a query, so that its average precision says something."""
MAX_QUERIES = 200
_FACETS = ("colour", "pattern", "sleeve")
WORDINGS: Mapping[str, str] = MappingProxyType(
    {
        "plain": "{word} {noun}",
        "photo": "a photo of {a} {word} {noun}",
        "wish": "I am looking for {a} {word} {noun}",
        "capitals": "{WORD} {NOUN}",
        "noun first": "{noun}, {word}",
        "other noun": "{word} {other}",
    }
)
"""Paraphrases by name; ``other noun`` takes a synonym of the garment, or stays as ``plain``."""


@dataclass(frozen=True, slots=True, eq=False)
class SensitivityProbe:
    """Queries in several wordings, and the products that answer them."""

    name: str
    """``sample/sensitivity``."""
    queries: tuple[tuple[str, ...], ...]
    """Each query's wordings, in the order of ``WORDINGS``."""
    documents: tuple[ImageRef, ...]
    relevant: tuple[Int[np.ndarray, " _"], ...]
    """For each query the rows of ``documents`` that answer it."""
    notes: tuple[str, ...]


def sensitivity(products: ProductSet) -> list[SensitivityProbe]:
    """Queries of an attribute and a garment, each in six wordings.

    Args:
        products: to search, those whose garment is known.
    """
    known = [product for product in products.products if product.garment]
    queries: list[tuple[str, ...]] = []
    relevant: list[np.ndarray] = []
    for facet in _FACETS:
        keys = [
            f"{word}\n{product.garment}" if (word := product.words.get(facet)) else ""
            for product in known
        ]
        for key, rows in group_by(keys).items():
            if len(rows) >= MIN_RELEVANT:
                word, _, noun = key.partition("\n")
                queries.append(_wordings(word, noun, known[rows[0]].synonyms))
                relevant.append(rows)
    chosen = choose(len(queries), MAX_QUERIES, seed=6).tolist()
    sampled = "" if len(chosen) == len(queries) else f" {len(queries):,} of them, sampled."
    return [
        SensitivityProbe(
            f"{products.name}/sensitivity",
            tuple(queries[row] for row in chosen),
            tuple(product.image for product in known),
            tuple(relevant[row] for row in chosen),
            (
                f"Queries of an attribute and a garment that at least {MIN_RELEVANT} of "
                f"{len(known):,} products answer.{sampled}",
                *products.notes,
            ),
        )
    ]


def _wordings(word: str, noun: str, synonyms: tuple[str, ...]) -> tuple[str, ...]:
    article = "" if is_plural(noun) else "an" if word[0] in "aeiou" else "a"
    found = (
        template.format(
            a=article,
            word=word,
            noun=noun,
            WORD=word.upper(),
            NOUN=noun.upper(),
            other=next(iter(synonyms), noun),
        )
        for template in WORDINGS.values()
    )
    return tuple(" ".join(text.split()) for text in found)


def score_sensitivity(
    probe: SensitivityProbe,
    encoder: Encoder,
    *,
    seen: Bool[np.ndarray, " document"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Search by each wording of each query, and compare the average precisions.

    Args:
        probe: queries and products.
        encoder: of the model.
        seen: marks the products that the model was trained on; ``unseen`` holds the figures
            without the queries that one of them answers.
        seed: of the bootstrap.

    Returns:
        ``sensitivity`` (the headline: the largest less the smallest average precision over a
        query's wordings, 0 where wording makes no difference) and ``average_precision`` (mean over
        the wordings), both means over queries. ``details`` holds ``chance``, ``n_documents`` and
        ``groups``: the mean average precision of each wording.
    """
    found = readable_images(probe.documents, encoder)
    left_out = len(probe.documents) - len(found.images)
    row = np.cumsum(found.kept) - 1
    relevant = [row[rows[found.kept[rows]]] for rows in probe.relevant]
    kept = [  # queries that still have enough answers without the pictures that are lost
        i
        for i, (rows, all_rows) in enumerate(zip(relevant, probe.relevant, strict=True))
        if len(rows) >= min(MIN_RELEVANT, len(all_rows))
    ]
    if len(kept) < MIN_ITEMS:
        return nothing(probe.name, HEADLINE, left_out, too_few(len(kept)), found.warnings)
    values = np.stack(
        [
            _average_precisions(
                encoder.encode_text([probe.queries[i][column] for i in kept]),
                found.vectors,
                [relevant[i] for i in kept],
            )
            for column in range(len(WORDINGS))
        ],
        axis=1,
    )
    columns = {HEADLINE: np.ptp(values, axis=1), "average_precision": values.mean(axis=1)}
    marks = seen_among(seen, found.kept)
    is_seen = np.array([bool(marks[relevant[i]].any()) for i in kept])
    n_relevant = np.array([len(relevant[i]) for i in kept])
    n_documents = len(found.images)
    chance = expected_average_precision(n_relevant, n_documents, n_documents)
    return result_of(
        probe.name,
        HEADLINE,
        items=[probe.queries[i][0] for i in kept],
        columns=columns,
        seen=is_seen,
        left_out=left_out,
        details={
            "chance": {"average_precision": float(chance.mean())},
            "n_documents": n_documents,
            "groups": {
                "Average precision by wording": {
                    f"{name}: “{probe.queries[kept[0]][column]}”": mean_figure(
                        values[:, column], seed
                    )
                    for column, name in enumerate(WORDINGS)
                }
            },
        },
        notes=probe.notes,
        warnings=found.warnings,
        seed=seed,
    )


def _average_precisions(
    queries: Float[np.ndarray, "q d"],
    documents: Float[np.ndarray, "m d"],
    relevant: list[np.ndarray],
) -> Float[np.ndarray, " q"]:
    ranked = rank(queries, documents, len(documents))
    marks = np.stack([np.isin(rows, ours) for rows, ours in zip(ranked, relevant, strict=True)])
    n_relevant = np.array([len(rows) for rows in relevant])
    return average_precision_at(marks, n_relevant, len(documents))
