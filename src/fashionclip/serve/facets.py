"""Facets: columns to filter by, with counts of their values; queries that find something.

Columns are encoded when they are first counted. Snapshots share most of their products, and with
them their encoding: only what came later is encoded again. The counts also give a few queries that
find something here: "black handbags".
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
MIN_SHARED_ROWS = 10_000  # of a block whose encoding is used again; fewer are quickly encoded
ROWS_SAMPLED = 10_000
SPARSE = 0.1  # share of rows that pass, below which they are taken one by one
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

    def counts(self, chosen: "_Chosen") -> tuple[tuple[Value, int], ...]:
        """The values of the products that pass, most frequent first."""
        if self.rows is not None:
            return _counts(self.codes[chosen.mask[self.rows]], self.values)
        return _counts(chosen.of(self.codes), self.values)


class _Chosen:
    """The rows that pass: as a mask, or one by one where they are few, which is quicker."""

    def __init__(self, mask: Bool[np.ndarray, " n"]) -> None:
        self.mask = mask
        is_sparse = np.count_nonzero(mask) < SPARSE * len(mask)
        self._rows = np.flatnonzero(mask) if is_sparse else None

    def of(self, values: np.ndarray) -> np.ndarray:
        """The values of these rows."""
        return values[self.mask if self._rows is None else self._rows]


class Facets:
    """The facets of one snapshot."""

    def __init__(self, snapshot: Snapshot, before: "Facets | None" = None) -> None:
        """Prepare; columns are encoded when they are first counted.

        Args:
            snapshot: the products; ids, titles, descriptions and images are no facets.
            before: the facets of an earlier snapshot, whose work is used again where it can be.
        """
        self.snapshot, self._roles = snapshot, snapshot.meta.roles
        roles = self._roles
        ignored = {roles.id, roles.title, roles.description, roles.image, *roles.further_images}
        self._names = [name for name in snapshot.meta.columns if name not in ignored]
        self._found: dict[str, _Encoded | np.ndarray | None] = {}
        self._of_base: dict[str, _Encoded | None] = {}
        is_shared = before is not None and before.snapshot.base is snapshot.base
        if before is not None and is_shared and len(snapshot.base) >= MIN_SHARED_ROWS:
            self._of_base = before._of_base

    def counted(self, mask: Bool[np.ndarray, " n"] | None) -> tuple[Facet, ...]:
        """Count every facet over the products that pass a filter, in the order of the columns.

        Args:
            mask: the rows that pass; None for all products.
        """
        now = self.snapshot
        if mask is None:
            mask = np.ones(now.n_rows, dtype=bool) if now.is_live is None else now.is_live
        chosen = _Chosen(mask)
        found = []
        for name in self._names:
            column = self._column(name)
            if isinstance(column, _Encoded):
                found.append(Facet(name, column.kind, column.counts(chosen)[:MAX_SHOWN_VALUES]))
            elif column is not None:
                numbers = chosen.of(column)
                numbers = numbers[np.isfinite(numbers)]
                ends = (float(numbers.min()), float(numbers.max())) if len(numbers) else (None,) * 2
                found.append(Facet(name, "number", low=ends[0], high=ends[1]))
        return tuple(found)

    def _column(self, name: str) -> _Encoded | np.ndarray | None:
        """A column, encoded, or its numbers; None for one that is no facet."""
        if name not in self._found:
            now, kind = self.snapshot, self.snapshot.meta.columns[name]
            if kind in {"integer", "number"}:
                numbers = now.column(name).cast(pa.float64()).to_numpy()
                finite = numbers[np.isfinite(numbers)]
                is_facet = len(finite) > 0 and finite.min() < finite.max()
                self._found[name] = numbers if is_facet else None
            else:
                self._found[name] = self._encoded(name, is_boolean=kind == "boolean")
        return self._found[name]

    def _encoded(self, name: str, *, is_boolean: bool) -> _Encoded | None:
        now = self.snapshot
        if len(now.base) < MIN_SHARED_ROWS:
            return _encode(now.column(name), is_boolean=is_boolean)
        if name not in self._of_base:
            self._of_base[name] = _encode(now.base.columns.column(name), is_boolean=is_boolean)
        base = self._of_base[name]
        if base is None or not len(now.recent):
            return base
        return _extended(base, len(now.base), now.recent.columns.column(name).to_pylist())

    def suggestions(self) -> tuple[str, ...]:
        """A few queries that find something: categories, each in a colour that it has."""
        categories = self._text_column(self._roles.category)
        if categories is None:
            return ()
        colours = self._text_column(self._roles.colour)
        found: dict[str, None] = {}
        used: dict[str, int] = {}
        live = slice(None) if self.snapshot.is_live is None else self.snapshot.is_live
        for category, _ in _counts(categories.codes[live], categories.values):
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
        encoded = self._column(name) if name in self._names else None
        return encoded if isinstance(encoded, _Encoded) and encoded.kind == "text" else None


def _encode(column: pa.ChunkedArray, *, is_boolean: bool) -> _Encoded | None:
    """Encode a column whose values repeat; None for a column that is no facet."""
    if not is_boolean and pc.any(pc.starts_with(column, "[")).as_py():
        return _encode_lists(column)
    some = pc.count_distinct(column.slice(0, ROWS_SAMPLED)).as_py()
    if some > MAX_DISTINCT:  # sooner than all of a million titles
        return None
    n_distinct = pc.count_distinct(column).as_py()
    n_filled = len(column) - column.null_count
    if not 1 < n_distinct <= MAX_DISTINCT or n_filled < MIN_PRODUCTS_PER_VALUE * n_distinct:
        return None
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if not is_boolean and any(len(v) > MAX_VALUE_CHARS or v[:1] in {"[", "{"} for v in values):
        return None
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int16)
    return _Encoded("boolean" if is_boolean else "text", codes, values)


def _extended(base: _Encoded, n_rows: int, cells: Sequence[Value]) -> _Encoded | None:
    """An encoded column with more cells after its own; None if it is no facet any more.

    Args:
        base: the encoded column.
        n_rows: how many products it has.
        cells: the values that come after.
    """
    values = list(base.values)
    codes_of = {value: code for code, value in enumerate(values)}
    codes: list[int] = []
    rows: list[int] = []
    for row, cell in enumerate(cells, start=n_rows):
        elements: Sequence[Value] | None = [cell]
        if base.kind == "list" and isinstance(cell, str):
            elements = _elements(cell)
        for element in elements or ():
            if element is None and base.kind == "list":
                continue
            rows.append(row)
            codes.append(-1 if element is None else codes_of.setdefault(element, len(codes_of)))
    values += list(codes_of)[len(values) :]
    if len(values) > MAX_DISTINCT:
        return None
    all_rows = None if base.rows is None else np.concatenate([base.rows, np.array(rows, np.int64)])
    all_codes = np.concatenate([base.codes, np.array(codes, base.codes.dtype)])
    return _Encoded(base.kind, all_codes, values, all_rows)


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
    lists = pa.array(by_cell, pa.list_(pa.int16())).take(encoded.indices)
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
