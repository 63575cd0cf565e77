"""Facets: columns to filter by, with counts of their values; queries that find something.

The same counts give a few queries that find something here: "black handbags".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from fashionclip.product import Value
from fashionclip.store.memory import Snapshot

MAX_DISTINCT = 400  # values of a column that is a facet
MAX_SHOWN_VALUES = 60  # the most frequent ones, to keep the page small
MIN_PRODUCTS_PER_VALUE = 2.0  # on average; a value per product is no facet
MAX_VALUE_CHARS = 60  # longer values are sentences
MAX_SUGGESTIONS = 8

FacetKind = Literal["text", "boolean", "number"]


@dataclass(frozen=True, slots=True)
class Facet:
    """One column to filter by."""

    name: str
    kind: FacetKind
    values: tuple[tuple[Value, int], ...] = ()
    """Values and how many products have them, most frequent first; empty for numbers."""
    low: float | None = None
    """Lowest and highest number; None for other kinds."""
    high: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """A column, dictionary-encoded."""

    kind: FacetKind
    codes: Int[np.ndarray, " n"]
    """-1 for a missing value."""
    values: Sequence[Value]


class Facets:
    """The facets of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Encode the columns, so that counting is fast.

        Args:
            snapshot: the products; ids, titles, descriptions and images are no facets.
        """
        self.snapshot, self._roles = snapshot, snapshot.meta.roles
        roles = self._roles
        self._encoded: dict[str, _Encoded] = {}
        self._numbers: dict[str, np.ndarray] = {}
        ignored = {roles.id, roles.title, roles.description, roles.image, *roles.further_images}
        for name, kind in snapshot.meta.columns.items():
            if name in ignored:
                continue
            column = snapshot.columns.column(name)
            if kind in {"integer", "number"}:
                numbers = column.cast(pa.float64()).to_numpy()
                if len(np.unique(numbers[np.isfinite(numbers)])) > 1:
                    self._numbers[name] = numbers
            elif encoded := _encode(column, is_boolean=kind == "boolean"):
                self._encoded[name] = encoded

    def counted(self, mask: Bool[np.ndarray, " n"] | None) -> tuple[Facet, ...]:
        """Count every facet over the products that pass a filter, in the order of the columns.

        Args:
            mask: the rows that pass; None for all.
        """
        rows = slice(None) if mask is None else mask
        found = []
        for name in self.snapshot.meta.columns:
            if name in self._encoded:
                encoded = self._encoded[name]
                values = _counts(encoded.codes[rows], encoded.values)
                found.append(Facet(name, encoded.kind, values[:MAX_SHOWN_VALUES]))
            elif name in self._numbers:
                numbers = self._numbers[name][rows]
                numbers = numbers[np.isfinite(numbers)]
                ends = (float(numbers.min()), float(numbers.max())) if len(numbers) else (None,) * 2
                found.append(Facet(name, "number", low=ends[0], high=ends[1]))
        return tuple(found)

    def suggestions(self) -> tuple[str, ...]:
        """A few queries that find something: categories, each in a colour that it has."""
        categories = self._text_column(self._roles.category)
        if categories is None:
            return ()
        colours = self._text_column(self._roles.colour)
        found: dict[str, None] = {}
        used: dict[str, int] = {}
        for category, _ in _counts(categories.codes, categories.values):
            query = str(category)
            if colours is not None:
                rows = categories.codes == list(categories.values).index(category)
                common = [str(v) for v, _ in _counts(colours.codes[rows], colours.values)[:3]]
                if common:
                    colour = min(common, key=lambda c: (used.get(c, 0), common.index(c)))
                    used[colour] = used.get(colour, 0) + 1
                    query = f"{colour} {query}"
            found.setdefault(query.lower())
            if len(found) == MAX_SUGGESTIONS:
                break
        return tuple(found)

    def _text_column(self, name: str | None) -> _Encoded | None:
        encoded = self._encoded.get(name or "")
        return encoded if encoded is not None and encoded.kind == "text" else None


def _encode(column: pa.ChunkedArray, *, is_boolean: bool) -> _Encoded | None:
    """Encode a column whose values repeat; None for a column that is no facet."""
    n_distinct = pc.count_distinct(column).as_py()
    n_filled = len(column) - column.null_count
    if not 1 < n_distinct <= MAX_DISTINCT or n_filled < MIN_PRODUCTS_PER_VALUE * n_distinct:
        return None
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if not is_boolean and any(len(v) > MAX_VALUE_CHARS or v[:1] in {"[", "{"} for v in values):
        return None
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return _Encoded("boolean" if is_boolean else "text", codes, values)


def _counts(codes: np.ndarray, values: Sequence[Value]) -> tuple[tuple[Value, int], ...]:
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    order = np.argsort(-counts, kind="stable")
    filled = ((values[i], int(counts[i])) for i in order if counts[i])
    return tuple((value, count) for value, count in filled if value != "")
