"""``Query``: one search or list, as the command line, ``Index.search`` and the service ask it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32

from fashionclip.model import ImageSource
from fashionclip.searching.comparatives import Change, read_change
from fashionclip.store.filters import Filter

Mode = Literal["hybrid", "vectors", "words"]
"""What a text is compared with: the products' vectors, their words, or both."""

NEUTRAL = "product"
"""A text that names nothing in particular: the origin from which texts' meanings are measured."""

BUT_STRENGTH = 1.4
"""How far changes go: the best on brands for development; see docs/like-but.md."""
MAX_BUT_STRENGTH = 5.0
MAX_CHANGES = 10


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Query:
    """One search; without text, image and ``similar_to`` it lists the products that pass ``where``.

    Its vector is ``unit(weight * text + (1 - weight) * unit(mean of images))``, each part a unit
    vector; the images are ``image`` and the stored ones of ``similar_to``. Where there are only
    things to avoid, the text is ``NEUTRAL``.

    With things to avoid, the best candidates (at least 1,000 of them) are ranked again by

        ``score - avoid_weight * spread * sum over phrases a of max(0, z_a)``

    where ``z_a`` is how much more than the median candidate a product shows what ``a`` adds to the
    query, in standard deviations over the candidates, and ``spread`` is the standard deviation of
    their scores, so that 1 means the same for every model and query. What ``a`` adds is the
    direction ``a - n`` without its part along ``q - n``, for the text ``q`` of the query and a
    neutral text ``n``: red is not held against red dresses in "red dress" without "red shoes".
    Subtracting the vector of ``a`` from the query's instead would push the query away from images
    of clothes altogether. What a product of ``unlike`` adds is the difference between its vector
    and the mean of the candidates.

    With changes (``but``), the vector is moved by ``directions.moved``, which has the formula, and
    the hits keep the category of what the search starts from (``directions.kept_category``).

    In the mode ``hybrid``, candidates by vectors and by words are ranked together:
    ``ranking.fuse`` has the formula.
    """

    text: str | None = None
    image: ImageSource | None = None
    """A path, URL, bytes, Pillow image or array."""
    image_vector: Float32[np.ndarray, " dim"] | None = None
    """The unit vector of an image that is encoded already; it counts as ``image`` does."""
    similar_to: str | Sequence[str] = ()
    """Ids of stored products; they themselves are left out."""
    unlike: str | Sequence[str] = ()
    """Ids of stored products that hits should not look like; left out too."""
    weight: float = 0.5
    """Share of the text where there are text and images, in 0…1."""
    avoid: str | Sequence[str] = ()
    """Phrases for what hits should not show."""
    avoid_weight: float = 1.0
    """How much avoiding counts, 0 or more."""
    but: str | Sequence[str] = ()
    """How hits should differ from what the search starts from, up to ``MAX_CHANGES`` of them:
    ``longer``, ``less formal``, ``shorter sleeves``, ``long skirt / short skirt``."""
    but_strength: float = BUT_STRENGTH
    """How far the changes go, above 0 and up to ``MAX_BUT_STRENGTH``."""
    where: str | Filter | None = None
    """A filter over the catalogue's columns, applied before the vectors are compared."""
    k: int = 10
    """Hits wanted, at least 1."""
    offset: int = 0
    """Hits to leave out at the start, for pages; ``cursor`` is better where products change."""
    cursor: str | None = None
    """``Results.cursor`` of the page before this one: goes on after its last hit, also where
    products came or went since."""
    mode: Mode | None = None
    """What the text is compared with; None for both (``hybrid``), and for vectors where there are
    images too, or changes: beside an image, text such as "in red" is no name of a product."""
    sort: str | None = None
    """A column or role to sort the fitting hits by, ascending; descending with ``-`` before it."""
    total: bool = False
    """Whether to count the products that fit."""
    explain: bool = False
    """Whether hits say why they are there (``Hit.explanation``)."""
    diversity: float = 0.0
    """How much hits that look like earlier ones are put back, in 0…1."""
    templates: str | Sequence[str] | None = None
    """Prompt templates, as in ``FashionCLIP.encode_text``."""
    group: bool = False
    """Only the best hit of each group: products with one value in the column of the role
    ``group`` are variants of one another. A product without a value is a group of its own."""
    fields: Sequence[str] | None = None
    """Columns or roles that hits carry; None for all columns."""
    exact: bool | None = None
    """True compares every vector even where there is an approximate index."""

    @property
    def phrases(self) -> list[str]:
        """What to avoid, without blanks."""
        return [phrase.strip() for phrase in several(self.avoid) if phrase.strip()]

    @property
    def changes(self) -> list[Change]:
        """The changes, understood.

        Raises:
            ValueError: one is not; ``comparatives.read_change`` says why.
        """
        return [read_change(text) for text in several(self.but)]

    @property
    def words(self) -> str | None:
        """The text to search with; ``NEUTRAL`` where there are only things to avoid."""
        text = (self.text or "").strip()
        has_other = self.has_image or bool(several(self.similar_to))
        is_penalised = bool(self.phrases or several(self.unlike))
        return text or (NEUTRAL if is_penalised and not has_other else None)

    @property
    def has_image(self) -> bool:
        """Whether there is an image, encoded or not."""
        return self.image is not None or self.image_vector is not None

    @property
    def is_list(self) -> bool:
        """Whether there is nothing to rank by: then products are listed by id, or sorted."""
        return not (self.words or self.has_image or several(self.similar_to))

    @property
    def matches_words(self) -> bool:
        """Whether the text is compared with the products' words."""
        has_other = self.has_image or bool(several(self.similar_to) or several(self.but))
        mode = self.mode or ("vectors" if has_other else "hybrid")
        return mode != "vectors" and bool((self.text or "").strip())

    @property
    def compares_vectors(self) -> bool:
        """Whether anything is compared with the products' vectors."""
        return self.mode != "words" and not self.is_list

    @property
    def has_penalty(self) -> bool:
        """Whether there is something to avoid."""
        return bool(self.phrases or several(self.unlike)) and self.avoid_weight > 0

    @property
    def has_stable_scores(self) -> bool:
        """Whether a product's score depends on no other product."""
        return not (self.matches_words or self.has_penalty or self.diversity)

    @property
    def needs_model(self) -> bool:
        """Whether anything has to be encoded."""
        return self.compares_vectors and (
            bool(self.words or self.phrases or several(self.but)) or self.image is not None
        )

    def check(self, *, has_model: bool = True) -> None:
        """Refuse a query that makes no sense; one without text and image lists products.

        Raises:
            TypeError: a value is of another type than its field.
            ValueError: parts that contradict each other, a number out of range, or no model to
                encode with.
        """
        self._check_types()
        n_buts = len(several(self.but))
        faults = {
            f"mode is {self.mode!r}; choose hybrid, vectors or words": (
                self.mode is not None and self.mode not in get_args(Mode)
            ),
            "mode 'words' matches words: give text too": (
                self.mode == "words" and not self.matches_words
            ),
            "mode 'words' compares no vectors: leave out images, products, avoid and but": (
                self.mode == "words"
                and (
                    self.has_image
                    or bool(several(self.similar_to))
                    or self.has_penalty
                    or n_buts > 0
                )
            ),
            "but changes a search: give text, image or similar_to too": n_buts > 0 and self.is_list,
            f"but has {n_buts} changes; the maximum is {MAX_CHANGES}": n_buts > MAX_CHANGES,
            f"but_strength is {self.but_strength}; it must be above 0 and at most "
            f"{MAX_BUT_STRENGTH:g}": not 0 < self.but_strength <= MAX_BUT_STRENGTH,
            "give cursor or offset, not both: a cursor goes on after the page before": (
                self.cursor is not None and self.offset > 0
            ),
            "diversity changes the order by relevance: leave out diversity or sort": (
                self.diversity > 0 and self.sort is not None
            ),
            "diversity ranks hits again: give text, image or similar_to too": (
                self.diversity > 0 and self.is_list
            ),
            f"diversity is {self.diversity}; it must be between 0 and 1": (
                not 0 <= self.diversity <= 1
            ),
            f"weight is {self.weight}; it is the share of the words, 0 to 1": (
                not 0 <= self.weight <= 1
            ),
            f"avoid_weight is {self.avoid_weight}; it must be 0 or more": (
                not 0 <= self.avoid_weight < np.inf
            ),
            f"k is {self.k}: ask for at least 1 hit": self.k < 1,
            f"offset is {self.offset}; it must be 0 or more": self.offset < 0,
            "words and images need the model that made the index; similar_to alone does not": (
                self.needs_model and not has_model
            ),
        }
        for message, is_wrong in faults.items():
            if is_wrong:
                raise ValueError(message)
        self.changes  # noqa: B018 - refuses one that is not understood

    def _check_types(self) -> None:
        """Refuse values of another type than their fields.

        Raises:
            TypeError: there is one.
        """
        wanted: dict[str, tuple[Any, str]] = {
            "text": (str | None, "text"),
            "where": (str | Filter | None, "a filter's text, such as 'price < 50'"),
            "weight": (Real, "a number"),
            "avoid_weight": (Real, "a number"),
            "but_strength": (Real, "a number"),
            "diversity": (Real, "a number"),
            "sort": (str | None, "a column's name, such as 'price' or '-price'"),
            "cursor": (str | None, "the cursor of the page before"),
            "k": (Integral, "a whole number"),
            "offset": (Integral, "a whole number"),
        }
        faults = [
            (name, what)
            for name, (kind, what) in wanted.items()
            if not isinstance(getattr(self, name), kind)
        ]
        for name in ("similar_to", "unlike", "avoid", "but", "fields"):
            value: Any = getattr(self, name)
            if name == "fields" and value is None:
                continue
            is_sequence = isinstance(value, Iterable) and not isinstance(value, bytes)
            if not is_sequence or not all(isinstance(one, str) for one in value):
                faults.append((name, "text, or a list of texts"))
        for name, what in faults:
            message = f"{name} must be {what}, not {getattr(self, name)!r:.60}"
            raise TypeError(message)


def several(names: str | Sequence[str]) -> list[str]:
    """One name or several, as a list."""
    return [names] if isinstance(names, str) else list(names)
