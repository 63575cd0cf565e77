"""Queries with known answers for ``benchmarks/relevance.py``, made from the rows of two shops."""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashionclip.catalog import Catalog
from fashionclip.evaluate.benchmarks.kagl import UNSEEN_BELOW
from fashionclip.metrics import percentile
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Roles
from fashionclip.relevance import calibrate
from fashionclip.store import StoreMeta
from fashionclip.store.fulltext import product_text, search_words, words_of
from fashionclip.store.memory import MemoryStore

MAX_QUERIES = 100  # of one set
MAX_CATEGORIES = 15  # that a shop is robbed of
LETTERS = "abcdefghijklmnopqrstuvwxyz"
COLOURS = re.findall(
    r"\w+", "black white red blue green pink beige brown yellow purple orange grey"
)
OTHER_WORDS = {
    **{"tshirts": "tee", "heels": "pumps", "trousers": "pants", "sweaters": "jumper"},
    **{"casual shoes": "sneakers", "handbags": "bag", "flats": "ballerinas", "caps": "hat"},
    **{"shirts": "button-down", "tops": "blouse", "wallets": "purse", "jackets": "coat"},
    **{"sweatshirts": "hoodie", "backpacks": "rucksack", "track pants": "joggers"},
    **{"sandals": "slides", "dresses": "gown", "shorts": "bermudas"},
    **{"navy blue": "dark blue", "grey": "gray", "maroon": "burgundy", "tan": "camel"},
    **{"multi": "colourful", "purple": "violet", "beige": "sand"},
    **{"striped": "stripy", "checked": "checkered", "printed": "patterned", "solid": "plain"},
}
"""Categories, colours and patterns of Kaggle's table in words that its rows do not use."""
NOT_SOLD = re.findall(
    r"\w[^,]*",
    "tractor tyre, cordless screwdriver, garden gnome, tax consultant, hedge trimmer, dog leash, "
    "pet food bowl, espresso machine, fridge freezer, steam iron, electric kettle, tomato soup, "
    "cheddar cheese, beef burger, sparkling water, bottle of whisky, bag of rice, sushi, banana, "
    "broccoli, cookery book, road map of france, novel by dickens, newspaper subscription, "
    "bank account, credit card, pension plan, house for rent, plumber near me, electrician, "
    "concert tickets, cinema programme, bus to the airport, used car, spark plugs, engine oil, "
    "windscreen wiper, bicycle lock, rowing boat, surfboard, skateboard, snowboard, golf clubs, "
    "basketball hoop, dumbbells, treadmill, violin strings, drum kit, saxophone, microphone, "
    "computer monitor, wireless mouse, mechanical keyboard, memory card, phone contract, drone, "
    "video game console, telescope, microscope, thermometer, bandages, toothbrush, toothpaste, "
    "shampoo, toilet paper, washing powder, bin bags, sponge, bucket, mop, broom, sofa, bookshelf, "
    "wardrobe, bedside lamp, carpet, duvet, picture frame, vase, garden shed, fence posts, gravel, "
    "concrete, insulation, copper pipe, electric cable, fuse box, sandpaper, glue, baby milk, "
    "nappies, car seat, rocking horse, lego bricks, playing cards, crossword, dictionary, globe, "
    "calculator, projector, whiteboard, filing cabinet",
)
"""None of them is among the queries that thresholds are calibrated with."""


@dataclass(frozen=True)
class Question:
    """A query and the products that answer it."""

    text: str
    answers: frozenset[str]


@dataclass(frozen=True, eq=False)
class Shop:
    """Products with their vectors, before they are stored."""

    name: str
    roles: Roles
    products: Sequence[Product]
    vectors: NDArray[np.float32]

    def store(self, model: FashionCLIP, rows: Sequence[int] | None = None) -> MemoryStore:
        """A store of all products or of some rows, with its threshold."""
        chosen = range(len(self.products)) if rows is None else rows
        uri = f"memory://{self.name}"
        meta = StoreMeta(uri, model.name, model.fingerprint, model.dim, roles=self.roles)
        store = MemoryStore(meta)
        with store.writer() as writer:
            writer.upsert(
                [self.products[row] for row in chosen],
                self.vectors[list(chosen)],
                [bytes(16)] * len(chosen),
            )
            writer.set_relevance_threshold(calibrate(store, model))
        return store

    def values(self, column: str) -> list[str]:
        """A column as text, empty where there is no value."""
        return [str(product.columns.get(column) or "") for product in self.products]


def read_shop(
    name: str, table: Path, model: FashionCLIP, is_kept: Callable[[Product], bool] = lambda _: True
) -> Shop:
    catalog = Catalog.open(table)
    products = [item for item in catalog if isinstance(item, Product) and is_kept(item)]
    images = (catalog.read_image(product) for product in products)
    vectors = np.stack([*model.iter_images(images)])
    return Shop(name, catalog.roles, products, vectors.astype(np.float32))


def read_shops(data: Path, model: FashionCLIP) -> list[Shop]:
    rich = read_shop(
        "Kaggle, unseen brands",
        data / "kagl" / "styles.csv",
        model,
        lambda product: percentile(str(product.columns["brandName"]).lower()) < UNSEEN_BELOW,
    )
    title, brand = rich.roles.title, rich.roles.brand
    poor = Shop(
        "the same, titles and brands only",
        Roles(id=rich.roles.id, title=title, brand=brand),
        [replace(product, caption=str(product.columns[title or ""])) for product in rich.products],
        rich.vectors,
    )
    womens = read_shop("women's fashion", data / "womens" / "products.csv", model)
    return [rich, poor, womens]


# queries with known answers


def with_typo(text: str, rng: random.Random) -> str:
    """A text with one wrong, missing, additional or swapped letter in its longest word."""
    words = text.split()
    place = max(range(len(words)), key=lambda i: len(words[i]))
    word = words[place]
    i = rng.randrange(1, len(word) - 1)
    words[place] = rng.choice(
        [
            word[:i] + word[i + 1 :],
            word[:i] + rng.choice(LETTERS) + word[i:],
            word[:i] + rng.choice(LETTERS) + word[i + 1 :],
            word[:i] + word[i + 1] + word[i] + word[i + 2 :],
        ]
    )
    return " ".join(words)


class Questions:
    """Sets of questions about one shop."""

    def __init__(self, shop: Shop, seed: int = 0) -> None:
        """Begin without questions."""
        self.sets: dict[str, list[Question]] = defaultdict(list)
        self._ids = [product.product_id for product in shop.products]
        self._rng = random.Random(seed)

    def add(
        self,
        name: str,
        *columns: Sequence[str],
        text: Callable[..., str | None] = lambda *parts: " ".join(parts).lower(),
        least: int = 1,
    ) -> None:
        """A question per row of values that ``least`` products have; empty values do not count."""
        answers: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for product_id, key in zip(self._ids, zip(*columns, strict=True), strict=True):
            if all(key):
                answers[key].add(product_id)
        asked = [
            Question(words, frozenset(ids))
            for key, ids in sorted(answers.items())
            if len(ids) >= least and (words := text(*key))
        ]
        self.sets[name] += asked

    def add_typos(self, name: str, of: Iterable[str]) -> None:
        """The questions of other sets with a typo each; short words are left as they are."""
        self.sets[name] += [
            Question(with_typo(question.text, self._rng), question.answers)
            for source in of
            for question in self.sets[source]
            if max(map(len, question.text.split())) >= 5
        ]

    def sampled(self) -> dict[str, list[Question]]:
        """At most ``MAX_QUERIES`` of each set."""
        return {
            name: some if len(some) <= MAX_QUERIES else self._rng.sample(some, MAX_QUERIES)
            for name, some in self.sets.items()
        }


def other_words(*parts: str) -> str | None:
    words = [OTHER_WORDS.get(part.lower(), part.lower()) for part in parts]
    return " ".join(words) if words[-1] != parts[-1].lower() else None


def first_words(text: str, n: int = 40) -> str:
    return " ".join(text.split()[:n])


def kagl_questions(shop: Shop) -> dict[str, list[Question]]:
    brands, kinds, colours, titles, descriptions = (
        shop.values(column)
        for column in (
            *("brandName", "articleType", "baseColour", "productDisplayName", "description"),
        )
    )
    patterns = [
        attributes.get("Pattern") or attributes.get("Print or Pattern Type") or ""
        for attributes in (json.loads(text or "{}") for text in shop.values("articleAttributes"))
    ]
    n_products = Counter(brands)
    brands = [brand if n_products[brand] >= 3 else "" for brand in brands]
    found = Questions(shop)
    found.add("brand", brands)
    found.add("brand, category", brands, kinds, least=2)
    found.add("brand, colour, category", brands, colours, kinds, least=2)
    found.add_typos("misspelt", ["brand", "brand, category", "brand, category"])
    found.add("colour, category", colours, kinds, least=3)
    found.add("colour, pattern, category", colours, patterns, kinds, least=2)
    for keys in ([colours, kinds], [colours, patterns, kinds]):
        found.add("attributes in other words", *keys, text=other_words, least=2)
    found.add("id", [product.product_id for product in shop.products])
    found.add("whole title", titles)
    found.add("description, 40 words", descriptions, text=first_words)
    return found.sampled()


def womens_questions(shop: Shop) -> dict[str, list[Question]]:
    titles, descriptions, paths, tags = map(
        shop.values, ("title", "description", "category", "tags")
    )
    kinds = [path.rpartition(" > ")[2] for path in paths]
    colours = [
        next((word for word in re.findall(r"[a-z]+", text.lower()) if word in COLOURS), "")
        for text in tags
    ]
    found = Questions(shop)
    found.add("category", kinds, least=3)
    found.add("colour, category", colours, kinds, least=3)
    found.add_typos("misspelt", ["category", "colour, category"])
    found.add("id", [product.product_id for product in shop.products])
    found.add("whole title", titles)
    found.add("description, 40 words", descriptions, text=first_words)
    return found.sampled()


def nonsense(n: int = 60, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(LETTERS, k=rng.randint(4, 9))) for _ in range(n)]


def not_sold_here(
    shop: Shop, model: FashionCLIP, column: str
) -> list[tuple[MemoryStore, list[str]]]:
    """The shop without one of its categories, and queries for that; for each large category."""
    kinds = [path.rpartition(" > ")[2].lower() for path in shop.values(column)]
    texts = [set(words_of(product_text(product, shop.roles))) for product in shop.products]
    found = []
    for kind, _ in Counter(filter(None, kinds)).most_common(MAX_CATEGORIES):
        noun = search_words(kind)[-1].terms[0]
        rows = [i for i, words in enumerate(texts) if kinds[i] != kind and noun not in words]
        if len(rows) >= len(kinds) / 2:
            queries = [kind, *(f"{colour} {kind}" for colour in ("black", "brown", "red"))]
            found.append((shop.store(model, rows), queries))
    return found
