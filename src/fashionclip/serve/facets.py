"""What products can be filtered by: values of the catalogue's columns with how many have them.

And, out of the same counts, what there is to search for: "black handbags".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from fashionclip.catalog.roles import USUAL_NAMES, bare_name
from fashionclip.index import Snapshot
from fashionclip.index.columns import stored_name
from fashionclip.product import Value

MOST_DISTINCT = 400  # values of a column that products are filtered by
SHOWN_VALUES = 60  # of them, the most frequent; the page must stay small
LEAST_A_VALUE = 2.0  # products, on average: what is different for each is no filter
LONGEST_VALUE = 60  # characters; longer ones are sentences
SUGGESTIONS = 8
NO_FILTER = ("id", "image", "title", "description")
COLOURS = ("colour", "color", "basecolour", "basecolor", "colourname", "colorname")

FacetKind = Literal["words", "yes-no", "number"]


@dataclass(frozen=True, slots=True)
class Facet:
    """One column to filter by."""

    name: str
    kind: FacetKind
    values: tuple[tuple[Value, int], ...] = ()
    """Values and how many products have them, most frequent first; of numbers none."""
    low: float | None = None
    """Of numbers: the least that there is."""
    high: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Coded:
    """A column as numbers of its values."""

    kind: FacetKind
    codes: Int[np.ndarray, " n"]
    """-1 where a product has none."""
    values: Sequence[Value]


class Facets:
    """The countable columns of one snapshot."""

    def __init__(self, seen: Snapshot) -> None:
        """Look through the columns once; counting is quick from then on."""
        self.seen = seen
        self._coded: dict[str, _Coded] = {}
        self._numbers: dict[str, np.ndarray] = {}
        for name, kind in seen.columns.items():
            if bare_name(name) in {usual for role in NO_FILTER for usual in USUAL_NAMES[role]}:
                continue
            column = seen.table.column(stored_name(name))
            if kind in {"integer", "number"}:
                numbers = column.cast(pa.float64()).to_numpy()
                if len(np.unique(numbers[np.isfinite(numbers)])) > 1:
                    self._numbers[name] = numbers
            elif coded := _code(column, is_boolean=kind == "boolean"):
                self._coded[name] = coded

    def counted(self, mask: Bool[np.ndarray, " n"] | None) -> tuple[Facet, ...]:
        """Every facet over the products that pass a filter, in the order of the columns.

        Args:
            mask: the rows that pass; None for all.
        """
        rows = slice(None) if mask is None else mask
        found = []
        for name in self.seen.columns:
            if name in self._coded:
                coded = self._coded[name]
                values = _counts(coded.codes[rows], coded.values)
                found.append(Facet(name, coded.kind, values[:SHOWN_VALUES]))
            elif name in self._numbers:
                numbers = self._numbers[name][rows]
                numbers = numbers[np.isfinite(numbers)]
                ends = (float(numbers.min()), float(numbers.max())) if len(numbers) else (None,) * 2
                found.append(Facet(name, "number", low=ends[0], high=ends[1]))
        return tuple(found)

    def suggestions(self) -> tuple[str, ...]:
        """A few searches that find something: kinds of products, each in a colour that it has."""
        kinds = self._of_role(USUAL_NAMES["category"])
        if kinds is None:
            return ()
        colours = self._of_role(COLOURS)
        found: dict[str, None] = {}
        used: dict[str, int] = {}
        for kind, _ in _counts(kinds.codes, kinds.values):
            words = str(kind)
            if colours is not None:
                has_kind = kinds.codes == list(kinds.values).index(kind)
                common = [str(v) for v, _ in _counts(colours.codes[has_kind], colours.values)[:3]]
                if common:
                    colour = min(common, key=lambda c: (used.get(c, 0), common.index(c)))
                    used[colour] = used.get(colour, 0) + 1
                    words = f"{colour} {words}"
            found.setdefault(words.lower())
            if len(found) == SUGGESTIONS:
                break
        return tuple(found)

    def _of_role(self, usual_names: Sequence[str]) -> _Coded | None:
        by_bare: Mapping[str, _Coded] = {
            bare_name(name): coded for name, coded in self._coded.items() if coded.kind == "words"
        }
        return next((by_bare[usual] for usual in usual_names if usual in by_bare), None)


def _code(column: pa.ChunkedArray, *, is_boolean: bool) -> _Coded | None:
    """A column whose values repeat, as numbers; None for one that is no filter."""
    distinct = pc.count_distinct(column).as_py()
    n_filled = len(column) - column.null_count
    if not 1 < distinct <= MOST_DISTINCT or n_filled < LEAST_A_VALUE * distinct:
        return None
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if not is_boolean and any(len(v) > LONGEST_VALUE or v[:1] in {"[", "{"} for v in values):
        return None
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return _Coded("yes-no" if is_boolean else "words", codes, values)


def _counts(codes: np.ndarray, values: Sequence[Value]) -> tuple[tuple[Value, int], ...]:
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    order = np.argsort(-counts, kind="stable")
    filled = ((values[i], int(counts[i])) for i in order if counts[i])
    return tuple((value, count) for value, count in filled if value != "")
