"""Which picture is a variant's own, and which show its product as a whole."""

from collections.abc import Mapping, Sequence

from fashionclip.catalog.feeds.options import order_of
from fashionclip.catalog.feeds.rules import FeedRow, Rules, objects_in
from fashionclip.catalog.image_cells import image_locations_of
from fashionclip.catalog.tables.table import Cell
from fashionclip.catalog.values import as_text


def gallery_of(rows: Sequence[FeedRow], rules: Rules) -> list[str | bytes]:
    """The pictures of a group's product as a whole, in their order.

    They are in the gallery's column, and in the image column of rows that are no variants.
    """
    found: list[tuple[tuple[object, ...], str | bytes]] = []
    for row in rows:
        listed = _gallery_pictures(row.cells[rules.gallery]) if rules.gallery in row.cells else []
        if row.is_parent or not row.is_variant:
            listed = listed + image_locations_of(row.cells.get(rules.image))
        if listed:
            order = (order_of(as_text(row.cells.get(rules.gallery_position))), row.seq)
            found += [((*order, i), picture) for i, picture in enumerate(listed)]
    return [picture for _, picture in sorted(found, key=lambda each: each[0])]


def own_pictures(cells: Mapping[str, Cell], parent: FeedRow, rules: Rules) -> list[str | bytes]:
    """The pictures that a variant names, perhaps by their key in its parent's gallery."""
    for name in rules.own_pictures:
        if name in cells and (found := image_locations_of(cells[name])):
            return found
    if rules.picture_key:
        key = as_text(cells.get(rules.picture_key)).strip()
        for picture in objects_in(parent.cells.get(rules.gallery)) if key else ():
            if as_text(picture.get("id")) == key and (found := image_locations_of(picture)):
                return found
    return []


def shared_pictures(
    parent: FeedRow, gallery: Sequence[str | bytes], rules: Rules
) -> list[str | bytes]:
    """The pictures of a variant that names none: its parent's, or the first of the gallery."""
    pictures = image_locations_of(parent.cells.get(rules.image))
    if parent.is_parent:
        return pictures or list(gallery[:1])
    return list(gallery[:1]) or pictures  # those of a parent that is a variant are its own


def _gallery_pictures(cell: Cell) -> list[str | bytes]:
    objects = () if isinstance(cell, str) else tuple(objects_in(cell))
    return image_locations_of(objects or cell)
