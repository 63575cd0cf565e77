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

from fashionclip.product import Value, list_of
from fashionclip.store.snapshot import Snapshot

MAX_DISTINCT = 400  # values of a column that is a facet
MAX_SHOWN_VALUES = 60  # the most frequent ones, to keep the page small
MIN_PRODUCTS_PER_VALUE = 2.0  # on average; a value per product is no facet
MAX_VALUE_CHARS = 60  # longer values are sentences
MAX_SUGGESTIONS = 8

FacetKind = Literal["text", "boolean", "number", "list"]
"""A ``list`` holds JSON lists, such as all sizes of a product; its values are their elements."""


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
    rows: Int[np.ndarray, " n"] | None = None
    """The product of each code; None where each product has one."""

    def counts(self, mask: Bool[np.ndarray, " n"] | None) -> tuple[tuple[Value, int], ...]:
        """The values of the products that pass, most frequent first."""
        if mask is None:
            return _counts(self.codes, self.values)
        passing = mask if self.rows is None else mask[self.rows]
        return _counts(self.codes[passing], self.values)


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
            column = snapshot.column(name)
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
        mask = self.snapshot.is_live if mask is None else mask
        rows = slice(None) if mask is None else mask
        found = []
        for name in self.snapshot.meta.columns:
            if name in self._encoded:
                values = self._encoded[name].counts(mask)[:MAX_SHOWN_VALUES]
                found.append(Facet(name, self._encoded[name].kind, values))
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
    if not is_boolean and pc.any(pc.starts_with(column, "[")).as_py():
        return _encode_lists(column)
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


def _encode_lists(column: pa.ChunkedArray) -> _Encoded | None:
    """Encode the elements of lists, and values that are none; None for a column that is no facet.

    A filter finds texts and whole numbers in flat lists, so that no other list is a facet.
    """
    encoded = column.combine_chunks().dictionary_encode()
    codes: dict[str, int] = {}
    by_cell: list[list[int]] = []
    for cell in encoded.dictionary.to_pylist():
        elements = _elements(cell)
        if elements is None or any(len(element) > MAX_VALUE_CHARS for element in elements):
            return None
        by_cell.append([codes.setdefault(element, len(codes)) for element in elements])
        if len(codes) > MAX_DISTINCT:
            return None
    lists = pa.array(by_cell, pa.list_(pa.int32())).take(encoded.indices)
    found, rows = pc.list_flatten(lists), pc.list_parent_indices(lists)
    if len(codes) < 2 or len(found) < MIN_PRODUCTS_PER_VALUE * len(codes):
        return None
    return _Encoded("list", found.to_numpy(), list(codes), rows.to_numpy())


def _elements(cell: str) -> Sequence[str] | None:
    """The texts and whole numbers of a flat JSON list, each once; a plain value is its own element.

    None for a list that holds anything else.
    """
    found = list_of(cell)
    elements = [cell] if found is None else found
    if any(isinstance(one, bool) or not isinstance(one, str | int) for one in elements):
        return None
    return list(dict.fromkeys(str(one) for one in elements if one != ""))


def _counts(codes: np.ndarray, values: Sequence[Value]) -> tuple[tuple[Value, int], ...]:
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    order = np.argsort(-counts, kind="stable")
    filled = ((values[i], int(counts[i])) for i in order if counts[i])
    return tuple((value, count) for value, count in filled if value != "")
