"""A group of rows to the rows of its products.

Variants inherit from their parent, or from the rows that share their group. Variants of one colour
with one picture are one product, with their sizes and other options as lists.
What comes out does not depend on the order of the rows: variants are ordered by their position,
or else by sizes and numbers, after the row that holds what all share.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fashionclip.catalog.feeds.options import as_values, option_values, order_of
from fashionclip.catalog.feeds.pictures import gallery_of, own_pictures, shared_pictures
from fashionclip.catalog.feeds.rules import FeedRow, Rules, slug
from fashionclip.catalog.money import price_of, read_amount
from fashionclip.catalog.roles import is_usual
from fashionclip.catalog.tables.table import Cell, Row
from fashionclip.catalog.values import as_text

_as_json = json.JSONEncoder(ensure_ascii=False).encode  # made once: a third of ``dumps``
FURTHER_IMAGES = "further_images"
"""The column of further views, as JSON text."""
MAX_FURTHER_IMAGES = 100
"""Further views that a product keeps."""


@dataclass(frozen=True)
class Findings:
    """What was done with a feed's rows, for its notes."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, number: int, example: str = "") -> None:
        """Count something; the first example is kept."""
        self.counts[what] += 1
        self.examples.setdefault(what, f"row {number}" + (f", '{example}'" if example else ""))


@dataclass(slots=True)
class _Variant:
    """A variant with all that it inherits."""

    row: FeedRow
    cells: dict[str, Cell]
    options: dict[str, list[str]]
    colours: tuple[str, ...] = ()
    """Those among its options."""
    pictures: list[str | bytes] = field(default_factory=list)


def products_of(rows: list[FeedRow], rules: Rules, findings: Findings) -> list[Row]:
    """The products of a group of rows, in the order of their first rows.

    Args:
        rows: the group, the row that it leads to first.
        rules: the system's rules.
        findings: is told what was done.
    """
    if len(rows) == 1 and rules.gallery not in rows[0].cells:
        row = rows[0]
        alone = _Variant(row, row.cells, option_values(row.cells, rules))
        made = [_row([alone], alone.cells, _Ids(row, [[alone]], rules), rules)]
        if rules.shared_value:
            _count_untitled(made, rules, findings)
        return made
    in_order = _in_order(rows, rules)
    lead, parents, children, others = _sort_out(rows, in_order, rules)
    variants = _inherit(parents, children, lead, rules)
    gallery = gallery_of(rows, rules)
    _set_own_pictures(variants, {row.seq: row for row in parents}, lead, gallery, rules)
    products: dict[tuple[str | bytes | None, tuple[str, ...]], list[_Variant]] = {}
    for variant in variants:
        picture = variant.pictures[0] if variant.pictures else None
        key = picture, variant.colours
        products.setdefault(key, []).append(variant)
    for row in () if rules.lists else parents:
        findings.add("parents", row.number)
    for row in others:
        findings.add("pictures" if gallery_of([row], rules) else "blank", row.number)
    own = {picture for picture, _ in products}
    ids = _Ids(lead, list(products.values()), rules)
    made = []
    for same in sorted(products.values(), key=lambda same: min(v.row.seq for v in same)):
        cells = _merge(same, rules, findings)
        if parents or rules.shared_value:
            cells[rules.group] = ids.group
        further = [view for variant in same for view in variant.pictures[1:]] + gallery
        _set_pictures(cells, same, [view for view in further if view not in own], rules, findings)
        made.append(_row(same, cells, ids, rules))
    if rules.shared_value:
        _count_untitled(made, rules, findings)
    return made


def _count_untitled(products: list[Row], rules: Rules, findings: Findings) -> None:
    for row in products if rules.title else ():
        if rules.title not in row.cells:
            findings.add("no title", row.number)


def _set_own_pictures(
    variants: list[_Variant],
    parents: Mapping[int, FeedRow],
    lead: FeedRow,
    gallery: list[str | bytes],
    rules: Rules,
) -> None:
    """Give each variant its pictures: its own, those of its colour, of its parent, of another."""
    for variant in variants:
        above = parents.get(variant.row.up or 0, lead)
        variant.pictures = own_pictures(variant.cells, above, rules)
    with_own = [variant for variant in variants if variant.pictures]
    if len(with_own) == len(variants):
        return
    of_colour = {v.colours: v.pictures[:1] for v in reversed(with_own) if v.colours}
    of_any = with_own[0].pictures[:1] if with_own else []
    for variant in variants:
        above = parents.get(variant.row.up or 0, lead)
        variant.pictures = (
            variant.pictures
            or of_colour.get(variant.colours)
            or shared_pictures(above, gallery, rules)
            or of_any
        )


def _colours(
    cells: Mapping[str, Cell], options: Mapping[str, list[str]], rules: Rules
) -> tuple[str, ...]:
    found = [values for name, values in options.items() if is_usual(name, "colour")]
    found += [as_values(cells[name]) for name in rules.plain_colours if name in cells]
    return tuple(value for values in found for value in values)


def _sort_out(
    rows: list[FeedRow], in_order: list[FeedRow], rules: Rules
) -> tuple[FeedRow, list[FeedRow], list[FeedRow], list[FeedRow]]:
    """The row of what all share; the parents; the variants in order; the rows that are neither."""
    parents = {row.seq for row in rows if row.is_parent}
    variants = {row.seq for row in rows if row.is_variant} - parents
    if not rules.shared_value:
        parents |= {row.up for row in rows if row.seq in variants and row.up is not None}
        first = next((row.seq for row in rows if row.up is None), rows[0].seq)
    else:
        first = _lead([row for row in in_order if row.is_parent] or in_order, rules).seq
        if variants and not parents and first not in variants:
            parents.add(first)
    variants -= parents
    if not variants:  # a parent without variants, or half a feed
        variants.add(first)
        parents.discard(first)
    for row in rows:
        row.is_parent = row.seq in parents
    named = parents | variants
    grouping = [row for row in rows if row.seq in parents]
    grouping.sort(key=lambda row: row.seq != first)
    children = [row for row in in_order if row.seq in variants]
    children.sort(key=lambda row: row.seq != first)
    lead = next((row for row in (*grouping[:1], *children[:1]) if row.seq == first), None)
    return (
        lead or (grouping or children)[0],
        grouping,
        children,
        [row for row in rows if row.seq not in named],
    )


def _lead(rows: list[FeedRow], rules: Rules) -> FeedRow:
    """The row that holds what its group shares: the fullest, and of several the first in order."""
    return max(rows, key=lambda row: len(row.cells.keys() & rules.inherited))


def _in_order(rows: list[FeedRow], rules: Rules) -> list[FeedRow]:
    """Rows by position, options and identifiers: by nothing but their cells."""
    keys = {row.seq: _order(row, rules) for row in rows}
    if len(set(keys.values())) == len(rows):
        return sorted(rows, key=lambda row: keys[row.seq])
    return sorted(rows, key=lambda row: (keys[row.seq], str(row.cells)))


def _order(row: FeedRow, rules: Rules) -> tuple[object, ...]:
    cells = row.cells
    values = [_ordered_text(cells[name]) if name in cells else "" for name in rules.ordering]
    if rules.packed:
        values += [v for listed in option_values(cells, rules).values() for v in listed]
    position = as_text(cells.get(rules.position))
    return order_of(position), tuple(map(order_of, values)), row.id


def _ordered_text(cell: Cell) -> str:
    return cell if type(cell) is str else " ".join(as_values(cell))


def _inherit(
    parents: list[FeedRow], children: list[FeedRow], lead: FeedRow, rules: Rules
) -> list[_Variant]:
    """The variants, with the cells that they inherit and their parent's options."""
    by_seq = {row.seq: row for row in parents}
    shared: dict[str, Cell] = {}
    shared_options: dict[str, list[str]] = {}
    if rules.shared_value:
        for source in (lead, *parents, *children):
            shared = _inherited(source, rules) | shared
        for parent in parents:
            shared_options |= option_values(parent.cells, rules)
    variants = []
    for row in children:
        cells, options = shared | row.cells, shared_options
        above = None if rules.shared_value else by_seq.get(row.up or 0)
        while above is not None:
            cells = _inherited(above, rules) | cells
            cells |= {n: above.cells[n] for n in rules.of_parent if n in above.cells}
            options = option_values(above.cells, rules) | options
            above = by_seq.get(above.up or 0)
        options = options | option_values(cells, rules)
        variants.append(_Variant(row, cells, options, _colours(cells, options, rules)))
    return variants


def _inherited(source: FeedRow, rules: Rules) -> dict[str, Cell]:
    return {name: source.cells[name] for name in source.cells.keys() & rules.inherited}


def _merge(same: list[_Variant], rules: Rules, findings: Findings) -> dict[str, Cell]:
    """The cells of a product: those of its first variant, its options, and the lowest price."""
    cells = same[0].cells
    if len(same) == 1:
        return cells
    cells = dict(cells)
    findings.counts["merged"] += len(same)
    findings.counts["merged into"] += 1
    for name in rules.plain_options:
        if values := [v for each in same for v in as_values(each.cells.get(name))]:
            cells[name] = _one_or_list(values)
    amounts = [_amount(variant.cells, rules) for variant in same]
    if len(set(amounts)) > 1:
        findings.add("prices", min(variant.row.number for variant in same))
        cheapest = same[amounts.index(min(amounts))]
        cells |= {name: cheapest.cells.get(name, "") for name in rules.prices}
    return cells


def _set_pictures(
    cells: dict[str, Cell],
    same: list[_Variant],
    further: list[str | bytes],
    rules: Rules,
    findings: Findings,
) -> None:
    if same[0].pictures:
        cells[rules.image] = same[0].pictures[0]
    listed = [as_text(view) for view in dict.fromkeys(further) if isinstance(view, str)]
    if len(listed) > MAX_FURTHER_IMAGES:
        findings.add("many pictures", same[0].row.number)
    if listed:
        cells[FURTHER_IMAGES] = _as_json(listed[:MAX_FURTHER_IMAGES])


def _row(same: list[_Variant], cells: dict[str, Cell], ids: "_Ids", rules: Rules) -> Row:
    """A product's row, with its options as columns of their own names."""
    product_id = ids.of(same)
    product = cells
    if rules.replaced:
        product = {name: cell for name, cell in cells.items() if name not in rules.replaced}
    for name, values in _options(same).items():
        product[rules.option_column(name)] = _one_or_list(values)
    for columns in rules.roles.values() if rules.lists or rules.first_of else ():
        known = [product[name] for name in columns if name in product]
        product |= dict.fromkeys(columns[:1], *known[:1]) if known else {}
    product[rules.id_column] = product_id
    rows = [variant.row for variant in same]
    first = min(rows, key=lambda row: row.seq)
    return Row(first.number, product, any([row.is_mended for row in rows]))


def _options(same: list[_Variant]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for variant in same:
        for name, values in variant.options.items():
            found.setdefault(name, []).extend(values)
    return found


def _one_or_list(values: Iterable[str]) -> str:
    """One value as it is, several as a JSON list."""
    distinct = list(dict.fromkeys(values))
    return _as_json(distinct) if len(distinct) > 1 else "".join(distinct)


def _amount(cells: Mapping[str, Cell], rules: Rules) -> float:
    """What a variant costs, to compare it with others of its product; infinite if unknown."""
    amounts = [_number(cells.get(name)) for name in rules.prices]
    return min((*amounts[:1], *filter(None, amounts[1:])), default=float("inf"))


def _number(cell: Cell) -> float:
    if isinstance(cell, int | float):
        return float(cell)
    found = price_of(read_amount(as_text(cell)), None)
    return float("inf") if found is None else found


def _own_id(same: list[_Variant]) -> str:
    """The first identifier of a product's variants; empty if they have none."""
    return next((variant.row.id for variant in same if variant.row.id), "")


class _Ids:
    """The identifiers of a group's products: distinct, and the same in any order of the rows."""

    def __init__(self, lead: FeedRow, products: list[list[_Variant]], rules: Rules) -> None:
        """Look at all products of the group."""
        self.group = as_text(lead.cells.get(rules.group)).strip()
        """What the products of the group share."""
        if not rules.shared_value and not (rules.lists and self.group):
            self.group = lead.id or self.group
        self._rules = rules
        found = [_own_id(same) for same in products]
        self._repeated: set[str] = set()
        if len(set(found)) < len(found):
            self._repeated = {name for name, n in Counter(found).items() if n > 1}
        self._taken: set[str] = set()

    def of(self, same: list[_Variant]) -> str:
        """The first variant's identifier; else that of the group, with what tells them apart."""
        own = _own_id(same)
        wanted = base = own or slug(self.group)
        if base and own in self._repeated:
            plain = {n: as_values(same[0].cells.get(n)) for n in self._rules.plain_options}
            options = [values for values in (_options(same) | plain).values() if values]
            telling = [values for values in options if len(set(values)) == 1] or options
            wanted = "-".join((base, *(slug(values[0]) for values in telling)))
        unique, number = wanted, 2
        while unique and unique in self._taken:
            unique, number = f"{wanted}-{number}", number + 1
        self._taken.add(unique)
        return unique
