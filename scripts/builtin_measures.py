"""What the built-in model is asked, on pictures that its training never saw.

Each function encodes pictures and words through the library, as a user would, and gives figures
with their 95 % intervals and what chance, or plain words, would come to.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from builtin_data import Item
from builtin_words import article_words
from sklearn.feature_extraction.text import TfidfVectorizer

from fashionclip.evaluate.benchmarks.fmnist import as_product_image
from fashionclip.metrics.classification import LabelMetric, accuracy, confusion_matrix, weighted_f1
from fashionclip.metrics.intervals import confusion_interval, mean_interval
from fashionclip.metrics.ranking import (
    average_precision_at,
    expected_hit,
    hit_at,
    precision_at,
    rank,
)
from fashionclip.model import FashionCLIP
from fashionclip.sample import CATEGORIES, COLOURS, PATTERNS, generate_images, sample_products
from fashionclip.text.captions import build_caption

FMNIST_LABELS = (
    *("t-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
FEWEST = 10  # held-out products that a class or a query needs to be measured
FIRST = 10  # places that are looked at
KIND_TEMPLATES, ATTRIBUTE_TEMPLATES = "sentences", "ensemble"
"""What suits the model, on products and photographs that it was trained on."""


@dataclass(frozen=True)
class Figure:
    """One line of the card."""

    what: str
    n_items: int
    value: float
    interval: tuple[float, float]
    without: str
    """What it comes to without a model, and how."""


def measure_catalog(model: FashionCLIP, items: Sequence[Item]) -> list[Figure]:
    """Held-out brands: article types, captions that find their product, short and long queries."""
    pictures = model.encode_images([i.picture for i in items])
    captions = model.encode_text([caption_of(item) for item in items])
    types = [i.facets["type"] for i in items]
    common = [name for name, n in Counter(types).most_common() if n >= FEWEST]
    rows = [i for i, name in enumerate(types) if name in common]
    return [
        _labelled(
            f"held-out brands: article type, {len(common)} types, weighted F1",
            truth=[common.index(types[i]) for i in rows],
            guesses=guess(model, pictures[rows], [article_words(name)[0] for name in common]),
            n_labels=len(common),
        ),
        _captions(captions, pictures, items),
        *_queries(model, pictures, items, "colour", "{} {}", captions),
        *_queries(model, pictures, items, "pattern", "{} {}"),
        *_queries(model, pictures, items, "sleeve", "{1} with {0}"),
    ]


def caption_of(item: Item) -> str:
    """The long text of a product, as an index has it."""
    return build_caption(item.highlights, item.title)


def measure_clothing(model: FashionCLIP, items: Sequence[Item]) -> list[Figure]:
    """The ten commonest labels: of held-out senders, and of the others, which shows memory."""
    labels = [n for n, _ in Counter(i.facets["garment"] for i in items).most_common(10)]
    words = [article_words(label)[0] for label in labels]
    figures = []
    for is_test, whose in ((True, "held-out senders'"), (False, "(for memory) trained senders'")):
        chosen = [i for i in items if i.is_test == is_test and i.facets["garment"] in labels]
        pictures = model.encode_images([i.picture for i in chosen])
        figures.append(
            _labelled(
                f"{whose} photographs: garment, 10 labels, weighted F1",
                truth=[labels.index(i.facets["garment"]) for i in chosen],
                guesses=guess(model, pictures, words),
                n_labels=len(labels),
            )
        )
    return figures


def measure_street(model: FashionCLIP, folder: Path) -> Figure:
    """People in a street: photographs ranked by each garment's name, the tagged ones being right.

    A tag counts that at least ``FEWEST`` photographs have, and that not all have.
    """
    with (folder / "photos.csv").open(encoding="utf-8", newline="") as file:
        photos = list(csv.DictReader(file))
    tags = [set(photo["garments"].split("|")) for photo in photos]
    counts = Counter(tag for some in tags for tag in some)
    asked = sorted(tag for tag, n in counts.items() if FEWEST <= n < len(photos))
    pictures = model.encode_images([folder / photo["image"] for photo in photos])
    relevant = np.array([[tag in some for some in tags] for tag in asked])
    words = model.encode_text(asked, templates=KIND_TEMPLATES)
    ranked = _ranked(words, pictures, relevant, len(photos))
    precisions = average_precision_at(ranked, relevant.sum(1), len(photos))
    base, value = float(relevant.mean()), float(precisions.mean())
    return _mean(
        f"people in a street: {len(asked)} garments, mean average precision",
        len(photos),
        precisions,
        f"{base:.3f} (the tags' share of the photographs; this is {value / base:.2f} times that)",
    )


def measure_fmnist(model: FashionCLIP, folder: Path) -> Figure:
    """Fashion-MNIST's test pictures, turned to dark on white; never trained on."""
    raw = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(raw, dtype=np.uint8, offset=16).reshape(-1, 28, 28)
    pictures = model.encode_images(map(as_product_image, pixels))
    return _labelled(
        "Fashion-MNIST test, zero-shot: 10 labels, weighted F1",
        truth=list(labels[8:]),  # IDX: 8 bytes before labels, 16 before pictures
        guesses=guess(model, pictures, FMNIST_LABELS),
        n_labels=len(FMNIST_LABELS),
    )


def measure_sample(model: FashionCLIP) -> list[Figure]:
    """The sample catalogue that ships (other products of the same generator were trained on)."""
    products = sample_products()
    pictures = model.encode_images(generate_images(len(products)))
    wholes: Mapping[str, Mapping[str, str]] = {
        "category": {n: article_words(n)[0] for n in CATEGORIES},
        "colour": {n: f"{n} garment" for n in COLOURS},
        "pattern": {n: f"{n} pattern" for n in PATTERNS},
        "sleeve": {"short": "short sleeves", "long": "long sleeves", "sleeveless": "sleeveless"},
    }
    figures = []
    for name, words in wholes.items():
        values = [getattr(p.attributes, name) for p in products]
        rows = [i for i, value in enumerate(values) if value is not None]
        templates = KIND_TEMPLATES if name == "category" else ATTRIBUTE_TEMPLATES
        figures.append(
            _labelled(
                f"sample catalogue: {name}, {len(words)} labels, accuracy",
                truth=[list(words).index(values[i]) for i in rows],
                guesses=guess(model, pictures[rows], list(words.values()), templates),
                n_labels=len(words),
                metric=accuracy,
            )
        )
    whole = [(p.attributes.colour, p.attributes.pattern, p.attributes.category) for p in products]
    asked = [parts for parts in dict.fromkeys(whole) if parts[1] != "solid"]
    texts = [f"{colour} {pattern} {article_words(n)[0]}" for colour, pattern, n in asked]
    relevant = np.array([[parts == wanted for parts in whole] for wanted in asked])
    hits = hit_at(_ranked(model.encode_text(texts), pictures, relevant, FIRST), FIRST)
    chance = expected_hit(relevant.sum(1), len(products), FIRST).mean()
    figures.append(
        _mean(
            f'sample catalogue: {len(texts)} queries such as "{texts[0]}", hit rate@{FIRST}',
            len(products),
            hits,
            f"{chance:.3f} (random order)",
        )
    )
    return figures


def guess(
    model: FashionCLIP,
    pictures: np.ndarray,
    labels: Sequence[str],
    templates: str = KIND_TEMPLATES,
) -> np.ndarray:
    """The label whose prompts are closest to each picture."""
    return np.argmax(pictures @ model.encode_text(labels, templates=templates).T, axis=1)


def _labelled(
    what: str,
    *,
    truth: Sequence[int],
    guesses: np.ndarray,
    n_labels: int,
    metric: LabelMetric = weighted_f1,
) -> Figure:
    true = np.array(truth)
    counts = confusion_matrix(true, guesses, n_labels)
    commonest = np.full(len(true), np.bincount(true).argmax())
    chance = float(metric(confusion_matrix(true, commonest, n_labels)))
    return Figure(
        what,
        len(true),
        float(metric(counts)),
        confusion_interval(counts, metric),
        f"{chance:.3f} (the commonest label)",
    )


def _mean(what: str, n_items: int, values: np.ndarray, without: str) -> Figure:
    return Figure(what, n_items, float(values.mean()), mean_interval(values), without)


def _captions(texts: np.ndarray, pictures: np.ndarray, items: Sequence[Item]) -> Figure:
    captions = [caption_of(item) for item in items]
    twins = np.array([c.casefold() for c in captions])
    relevant = twins[:, None] == twins[None]
    hits = hit_at(_ranked(texts, pictures, relevant, FIRST), FIRST)
    descriptions = [" ".join(i.sentences) for i in items]
    words = TfidfVectorizer().fit([*captions, *descriptions])
    by_words = (words.transform(captions) @ words.transform(descriptions).T).toarray()
    best = np.argsort(-by_words, axis=1, kind="stable")[:, :FIRST]
    in_words = np.take_along_axis(relevant, best, axis=1).any(1).mean()
    chance = expected_hit(relevant.sum(1), len(items), FIRST).mean()
    return _mean(
        f"held-out brands: caption finds its product's picture, recall@{FIRST}",
        len(items),
        hits,
        f"{chance:.3f} (random order); {in_words:.3f} (its description, by a bag of words)",
    )


def _queries(
    model: FashionCLIP,
    pictures: np.ndarray,
    items: Sequence[Item],
    facet: str,
    wording: str,
    captions: np.ndarray | None = None,
) -> Iterator[Figure]:
    """Short queries by an attribute and a type; with the captions' vectors, these ask the same."""
    pairs = [(i.facets.get(facet, ""), i.facets["type"]) for i in items]
    asked = [pair for pair, n in Counter(pairs).items() if n > FEWEST and pair[0]]
    queries = [wording.format(value, article_words(kind)[0]) for value, kind in asked]
    relevant = np.array([[pair == wanted for pair in pairs] for wanted in asked])
    chance = f"{relevant.mean():.3f} (random order)"
    found = _ranked(model.encode_text(queries), pictures, relevant, FIRST)
    yield _mean(
        f'held-out brands: {len(asked)} queries such as "{queries[0]}", precision@{FIRST}',
        len(items),
        precision_at(found, FIRST),
        chance,
    )
    if captions is None:
        return
    own = np.array([asked.index(pair) if pair in asked else -1 for pair in pairs])
    rows = np.flatnonzero(own >= 0)
    # a caption's own picture is left out: it is to find the others of its kind
    places = rank(captions[rows], pictures, FIRST, own=rows)
    right = precision_at(np.take_along_axis(relevant[own[rows]], places, axis=1), FIRST)
    by_query = np.array([right[own[rows] == i].mean() for i in range(len(asked))])
    yield _mean(
        f"held-out brands: the same asked by their long captions, precision@{FIRST}",
        len(items),
        by_query,
        chance,
    )


def _ranked(queries: np.ndarray, pictures: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Whether each of the k best pictures of each query is relevant."""
    return np.take_along_axis(relevant, rank(queries, pictures, k), axis=1)
