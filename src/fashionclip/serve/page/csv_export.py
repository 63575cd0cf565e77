"""Products as CSV for spreadsheets: UTF-8 with a byte order mark, without formulas.

Excel reads UTF-8 only with the mark; other programs, and this package, ignore it.
"""

import csv
import io
from collections.abc import Iterable, Sequence

from fashionclip.product import Hit, Roles, Value

FORMULA_SIGNS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""A text that begins with one of these may be taken for a formula; the last four are full-width.
Source: OWASP, "CSV Injection"."""


def csv_of(hits: Iterable[Hit], columns: Sequence[str], roles: Roles) -> bytes:
    """Products with all of their columns, a line each.

    An apostrophe stands before a text that a spreadsheet would take for a formula.

    Args:
        hits: the products, in the order of the lines.
        columns: the catalogue's; an ``id`` comes before them where none of them is the id.
        roles: the columns' roles.
    """
    others = [name for name in columns if name != roles.id]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_cell(name) for name in (roles.id or "id", *others)])
    for hit in hits:
        values = (hit.product_id, *(hit.columns.get(name) for name in others))
        writer.writerow([_cell(value) for value in values])
    return text.getvalue().encode("utf-8-sig", "replace")


def _cell(value: Value) -> Value:
    is_formula = isinstance(value, str) and value[:1] in FORMULA_SIGNS
    return f"'{value}" if is_formula else value
