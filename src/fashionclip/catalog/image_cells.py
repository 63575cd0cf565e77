"""A cell of an image column to what it names: locations or bytes."""

import re
from collections.abc import Mapping

from fashionclip.catalog.tables.table import Cell
from fashionclip.catalog.values import as_text

_NEXT_URL = re.compile(r"[,|;\s]+(?=https?://)")


def parse_image(cell: Cell) -> str | bytes | None:
    """The image that a cell names: its location, its bytes, or None.

    A cell may hold a path or URL, several URLs or a list (the first counts), bytes, or the
    ``{"bytes", "path"}`` of Hugging Face data sets.
    """
    if isinstance(cell, bytes):
        return cell or None
    if isinstance(cell, str):
        first, *_ = _NEXT_URL.split(cell.strip(), maxsplit=1)
        return first or None
    if isinstance(cell, list | tuple):
        return next((found for found in map(parse_image, cell[:10]) if found), None)
    if isinstance(cell, Mapping):
        parts = (cell.get(key) for key in ("bytes", "path", "url", "src"))
        return next((found for found in map(parse_image, parts) if found), None)
    return None if cell is None or isinstance(cell, bool) else as_text(cell)
