"""The rows of a feed into groups: which row belongs to which, whatever their order."""

import itertools
import re
from collections.abc import Iterator, Mapping

from fashionclip.catalog.feeds.rules import OPTIONS, FeedRow, Rules, filled, matching, objects_in
from fashionclip.catalog.feeds.spool import Member, Spool
from fashionclip.catalog.feeds.variants import Findings
from fashionclip.catalog.tables.table import BrokenRow, Cell, Row, Table
from fashionclip.catalog.values import as_text

_CHILD = re.compile(r"(?:^|[|,])\s*sku=([^,|]+)")
_MENDED, _PARENT, _VARIANT, _TRANSLATION = 1, 2, 4, 8

Item = tuple[int, dict[str, Cell], int]
"""What is spooled of a row: its number, its cells that are not blank, and flags."""


def load_rows(table: Table, rules: Rules, spool: Spool, findings: Findings) -> None:
    """Read a table into a spool, each row with what it belongs to.

    Raises:
        CatalogError: the table cannot be read on, or there is no room for temporary files.
    """
    place = _Place(rules)
    for row in table.rows():
        findings.counts["rows"] += 1
        if isinstance(row, BrokenRow):
            spool.add(row)
            continue
        if column := rules.left_out_by(row.cells):
            findings.add(
                "left out", row.number, f"{column}: {as_text(row.cells.get(column)).strip()}"
            )
        else:
            if column := matching(row.cells, rules.drafts):
                findings.add(
                    "drafts", row.number, f"{column}: {as_text(row.cells.get(column)).strip()}"
                )
            _add(_less_sale(row, rules, findings), rules, spool, place, findings)


def _less_sale(row: Row, rules: Rules, findings: Findings) -> Row:
    """A row without a sale price that does not apply."""
    if not rules.not_on_sale or not matching(row.cells, rules.not_on_sale):
        return row
    names = [name for name in rules.roles.get("sale_price", ()) if row.cells.get(name)]
    if names:
        findings.add("not on sale", row.number, as_text(row.cells[names[0]]).strip())
    return Row(row.number, {**row.cells, **dict.fromkeys(names)}, row.is_mended)


class _Place:
    """Where the reading is: what a row below may belong to."""

    def __init__(self, rules: Rules) -> None:
        """Start at the top."""
        self.parent: int | None = None
        """The last row that said it was a parent."""
        self.group = ""
        """The last value of the group's column."""
        self.is_by_place = bool(rules.parent_rows) and not (
            rules.shared_value or rules.parent or rules.children or rules.lists
        )


def _add(row: Row, rules: Rules, spool: Spool, place: _Place, findings: Findings) -> None:
    cells = filled(row.cells, rules.feed.missing)
    if rules.image not in cells:
        other = next((name for name in rules.other_images if name in cells), None)
        cells |= {rules.image: cells[other]} if other else {}
    if rules.first_of:
        cells = _with_first(cells, row.number, rules, findings)
    is_parent = rules.is_parent(cells)
    flags = _MENDED * row.is_mended + _PARENT * is_parent + _VARIANT * rules.is_variant(cells)
    if rules.variant_names in cells and not is_parent:
        cells[rules.variant_names + OPTIONS] = cells.pop(rules.variant_names)
    item = (row.number, cells, flags)
    if rules.lists:
        _add_list(item, cells.get(rules.lists), rules, spool)
    elif rules.shared_value:
        value = as_text(cells.get(rules.shared_value)).strip()
        if rules.feed.variants.fill_down:
            value = place.group = value or place.group
        seq = spool.add(item, ref=value or None)
        if value:
            spool.add_name(value, seq, row.number)
    elif place.is_by_place:
        seq = spool.add(item, up=None if is_parent else place.parent)
        place.parent = seq if is_parent else place.parent
    else:
        _add_named(item, rules, spool)


def _with_first(
    cells: dict[str, Cell], number: int, rules: Rules, findings: Findings
) -> dict[str, Cell]:
    """Cells with the fields of the first object of each list as columns."""
    for name in rules.first_of:
        objects = list(itertools.islice(objects_in(cells.get(name)), 2))
        if objects:
            cells = dict(_flatten(objects[0], name)) | cells
            del cells[name]
        if len(objects) > 1:
            findings.add("first of", number, name)
    return cells


def _add_list(item: Item, cell: Cell, rules: Rules, spool: Spool) -> None:
    """A row, and each object of its list as a variant of it."""
    number, cells, flags = item
    objects = list(objects_in(cell))
    parent = spool.add((number, cells, flags | (_PARENT if objects else 0)))
    for each in objects:
        variant = filled(dict(_flatten(each, rules.lists)))
        spool.add((number, variant, _VARIANT), up=parent)


def _flatten(found: Mapping[str, Cell], prefix: str) -> Iterator[tuple[str, Cell]]:
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def _add_named(item: Item, rules: Rules, spool: Spool) -> None:
    """A row that names its parent, or that others name."""
    number, cells, flags = item
    names = [
        before + name
        for before, column in rules.named_by
        if (name := as_text(cells.get(column)).strip())
    ]
    view = as_text(cells.get(rules.view)).strip() if rules.view else ""
    if view and names:  # without a row for all views, that of the default view is the product
        rank = f"{'2' if _is_translation(view, rules) else '1'} {view}"
        seq = spool.add((number, cells, flags | _TRANSLATION), ref=names[0])
        spool.add_name(names[0], seq, number, rank=rank)
        _add_children(cells, names, rules, spool)
        return
    parent = as_text(cells.get(rules.parent)).strip() if rules.parent else ""
    first = spool.number_of(names[0]) if names else None
    if first is not None and not parent:
        why = f"the id '{names[0]}' is a duplicate of row {first}; give each product its own"
        spool.add(BrokenRow(number, why, names[0]))
        return
    seq = spool.add(item, ref=parent or None)
    for name in names:
        spool.add_name(name, seq, number)
    _add_children(cells, names, rules, spool)


def _add_children(cells: Mapping[str, Cell], names: list[str], rules: Rules, spool: Spool) -> None:
    if rules.children and names:
        spool.add_children(_CHILD.findall(as_text(cells.get(rules.children))), names[0])


def read_groups(
    spool: Spool, rules: Rules, findings: Findings, view: str | None
) -> Iterator[list[FeedRow] | BrokenRow]:
    """The rows of each product, or a row that is broken.

    Args:
        spool: the loaded rows.
        rules: the system's rules.
        findings: is told what was done.
        view: the view of the shop, or its language, whose translations replace the words.

    Raises:
        CatalogError: there is no room for temporary files.
    """
    for members in spool.groups():
        broken = [member.item for member in members if isinstance(member.item, BrokenRow)]
        yield from broken
        rest = [member for member in members if not isinstance(member.item, BrokenRow)]
        if rest and rest[0].root == -1:
            why = f"its parents form a circle; mend the column '{rules.parent or rules.children}'"
            for member in rest:
                yield BrokenRow(member.item[0], why)
            continue
        for member in rest:
            if member.ref and member.up is None and not rules.shared_value:
                _note_lone(member, rules, findings)
        rows = [_row(member, rules) for member in rest]
        if rules.view:
            rows = _translated(rows, rest, rules, findings, view)
        if rows:
            yield rows


def _note_lone(member: Member, rules: Rules, findings: Findings) -> None:
    """Say that the row that a row refers to is not there."""
    number, cells, flags = member.item
    what = "orphans"
    if flags & _TRANSLATION:
        is_translation = _is_translation(as_text(cells.get(rules.view)), rules)
        what = "lone translations" if is_translation else ""
    if what:
        findings.add(what, number, member.ref or "")
    for name in rules.of_parent:  # "Red / S" is no title
        cells.pop(name, None)


def _translated(
    rows: list[FeedRow],
    members: list[Member],
    rules: Rules,
    findings: Findings,
    view: str | None,
) -> list[FeedRow]:
    """The rows but those of views, whose words replace those of their products."""
    names = {member.seq: _name(member.item, rules) for member in members}
    of_views = {
        member.seq
        for member in members
        if member.item[2] & _TRANSLATION and names.get(member.up or 0) == member.ref
    }
    translations = [row for row in rows if row.seq in of_views]
    rows = [row for row in rows if row.seq not in of_views]
    chosen = _key_of(view or "")

    def order(row: FeedRow) -> tuple[bool, bool, str]:
        found = _key_of(as_text(row.cells[rules.view]))
        return _is_translation(found, rules), found == chosen, found

    translations.sort(key=order)  # the default view first, the very view that was chosen last
    for row in translations:
        _translate(row, rows, rules, findings, view)
    return rows


def _name(item: Item, rules: Rules) -> str:
    column = rules.named_by[0][1] if rules.named_by else ""
    return as_text(item[1].get(column)).strip()


def _row(member: Member, rules: Rules) -> FeedRow:
    number, cells, flags = member.item
    return FeedRow(
        member.seq,
        member.up,
        number,
        rules.id_of(cells),
        cells,
        bool(flags & _MENDED),
        bool(flags & _PARENT),
        bool(flags & _VARIANT),
    )


def _key_of(view: str) -> str:
    return view.strip().lower().replace("-", "_")


def _is_translation(view: str, rules: Rules) -> bool:
    """Whether a view is not the one that the shop shows by default."""
    views = rules.feed.store_views
    return views is not None and view.strip().lower() not in views.default


def _translate(
    row: FeedRow, rows: list[FeedRow], rules: Rules, findings: Findings, view: str | None
) -> None:
    """Replace the words of a product by those of the default view, or the chosen one."""
    found = as_text(row.cells.get(rules.view)).strip()
    is_default = not _is_translation(found, rules)
    is_chosen = view is not None and _key_of(found).split("_")[0] == _key_of(view).split("_")[0]
    what = "default view" if is_default else "translated" if is_chosen else "translations"
    findings.add(what, row.number, found)
    for target in (each for each in rows if what != "translations" and each.seq == row.up):
        target.cells |= {name: cell for name, cell in row.cells.items() if name != rules.view}
