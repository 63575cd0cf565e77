"""What is said of the pictures the built-in model learns from: captions, and prompts for tags."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from builtin_data import FACETS, KINDS, Item
from builtin_words import NAMES, article_words, lowered, sleeved

from fashionclip.text.captions import build_caption

_FAMILIES: Mapping[str, Sequence[str]] = {
    "apparel": ("clothes", "clothing", "apparel", "garment"),
    "accessories": ("accessory", "accessories", "fashion accessory"),
    "personal care": ("personal care", "cosmetics", "beauty product"),
}
_STOP_SHARE = 0.3  # of the phrases and prompts: a full stop is to change nothing
_TEMPLATES = (
    "{}",
    "{}",
    "a photo of a {}",
    "a photo of a {}",
    "a product photo of a {}",
    "{} on a white background",
    "a picture of the {} from a fashion catalog",
)


class Captions:
    """Makes captions, and says which other pictures a caption is also true of."""

    def __init__(self, items: Sequence[Item], seed: int) -> None:
        """Number the attributes and titles of all items."""
        self._items = items
        self._rng = np.random.default_rng(seed)
        self.values: dict[str, list[str]] = {}
        self.has_caption = np.array([bool(item.title) for item in items])
        """Not photographs: prompts ask for all that is known of them."""
        columns = []
        for facet in FACETS:
            raw = [item.facets.get(facet, "") for item in items]
            self.values[facet] = [v for v, n in _counts(raw) if v and n >= 10]
            number = {value: i for i, value in enumerate(self.values[facet])}
            columns.append([number.get(value, -1) for value in raw])
        keys = {item.twin_key: i for i, item in enumerate(items) if item.twin_key}
        columns.append([keys.get(item.twin_key, -2 - i) for i, item in enumerate(items)])
        self.labels = np.array(columns, dtype=np.int64).T
        """(n items, facets + 1): the number of each attribute's value, -1 unknown; last, twins."""

    def shares(self, facet: str, rows: np.ndarray) -> np.ndarray:
        """How common each value of a facet is among some items: (values,), together 1."""
        labels = self.labels[rows, FACETS.index(facet)]
        counts = np.bincount(labels[labels >= 0], minlength=len(self.values[facet])) + 1
        return counts / counts.sum()

    def draw(self, i_item: int) -> tuple[str, np.ndarray]:
        """One caption at random, and what it demands of a picture: labels, or -1 for anything."""
        item, rng = self._items[i_item], self._rng
        demands = np.full(self.labels.shape[1], -1, dtype=np.int64)
        kind = rng.random()
        if not item.title or kind >= 0.45:
            text, facets = self._phrase(item)
            for facet in facets:
                demands[FACETS.index(facet)] = self.labels[i_item, FACETS.index(facet)]
            if item.title and (demands < 0).all():
                demands[-1] = self.labels[i_item, -1]
            return text, demands
        demands[-1] = self.labels[i_item, -1]
        if kind < 0.17 or (kind > 0.37 and not item.sentences):
            return item.title, demands
        if kind < 0.37:
            chosen = rng.permutation(len(item.highlights))[: int(rng.integers(1, 6))]
            return build_caption([item.highlights[i] for i in chosen], item.title), demands
        return item.sentences[int(rng.integers(len(item.sentences)))], demands

    def prompts(self, facet: str) -> list[str]:
        """A prompt for each value of a facet, with a name and a template at random."""
        name_of = self._words_of if facet in KINDS else self._saying_of
        template = self._template()
        return [template.format(name_of(facet, value)) for value in self.values[facet]]

    def all_texts(self) -> Iterator[str]:
        """Texts to learn a vocabulary from."""
        for i, item in enumerate(self._items):
            yield from (self.draw(i)[0] for _ in range(3))
            yield from item.sentences
        for names in NAMES.values():
            yield from names

    def _phrase(self, item: Item) -> tuple[str, list[str]]:
        rng, facets = self._rng, item.facets
        kind = next(f for f in KINDS if f in facets)
        used, words = [kind], [item.names[int(rng.integers(len(item.names)))]]
        if "pattern" in facets and rng.random() < 0.35:
            words.insert(0, lowered(facets["pattern"]))
            used.append("pattern")
        if "fabric" in facets and rng.random() < 0.1:
            words.insert(0, facets["fabric"])
            used.append("fabric")
        if "sleeve" in facets and rng.random() < 0.15:
            words.insert(0, sleeved(facets["sleeve"]))
            used.append("sleeve")
        if "colour" in facets and rng.random() < 0.6:
            words.insert(0, lowered(facets["colour"]))
            used.append("colour")
        if "gender" in facets and rng.random() < 0.25:
            gender = lowered(facets["gender"])
            words = [*words, "for", gender] if rng.random() < 0.5 else [gender, *words]
            used.append("gender")
        for facet in ("sleeve", "neck"):
            if facet in facets and facet not in used and rng.random() < 0.2:
                words += ["with", lowered(facets[facet])]
                used.append(facet)
        text = " ".join(words)
        return self._template().format(text), used

    def _template(self) -> str:
        template = _TEMPLATES[int(self._rng.integers(len(_TEMPLATES)))]
        return f"{template}." if self._rng.random() < _STOP_SHARE else template

    def _words_of(self, _facet: str, value: str) -> str:
        names = article_words(value)
        return names[0] if self._rng.random() < 0.6 else names[int(self._rng.integers(len(names)))]

    def _saying_of(self, facet: str, value: str) -> str:
        plain = lowered(value)
        sayings = {
            "colour": (plain, f"{plain} garment", f"{plain} product", f"{plain} clothes"),
            "pattern": (plain, f"{plain} pattern", f"{plain} garment"),
            "gender": (plain, f"product for {plain}", f"{plain} clothes"),
            "sleeve": (
                *(plain, f"garment with {plain}"),
                *(f"{sleeved(plain)} {noun}" for noun in ("garment", "clothes", "top")),
            ),
            "fabric": (plain, f"{plain} product", f"{plain} goods", f"product made of {plain}"),
            "family": _FAMILIES.get(plain, (plain,)),
            "subfamily": (plain, plain, f"{plain} product"),
            "usage": (plain, f"{plain} wear", f"{plain} clothes", f"product for {plain} use"),
        }.get(facet, (plain, f"garment with {plain}"))
        return sayings[int(self._rng.integers(len(sayings)))]


def _counts(values: Sequence[str]) -> list[tuple[str, int]]:
    names, numbers = np.unique(np.array(values, dtype=object).astype(str), return_counts=True)
    return sorted(
        ((str(n), int(c)) for n, c in zip(names, numbers, strict=True)), key=lambda p: -p[1]
    )
