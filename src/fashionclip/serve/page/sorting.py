"""The orders that the search page offers, from what the catalogue's columns hold."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fashionclip.product import Hit, Kind, Roles
from fashionclip.serve.facets import Facet
from fashionclip.serve.page.state import State
from fashionclip.serve.page.texts import column_label

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?!\d)")
_APPEARED = re.compile(r"new|add|creat|publish|launch|release|since|date|available", re.IGNORECASE)
_OTHER_DATES = re.compile(r"updat|modif|chang|end|until|expir|delet", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """One order."""

    value: str
    """As ``Query.sort`` has it; empty for the order of relevance."""
    label: str
    is_chosen: bool = False


def date_columns(hits: Sequence[Hit], columns: Mapping[str, Kind]) -> list[str]:
    """Columns that hold dates as ISO 8601 has them; those that say when a product came first.

    Args:
        hits: some products; a column in which all of them are blank is none.
        columns: the catalogue's.
    """
    found = []
    for name, kind in columns.items():
        values = [str(hit.columns.get(name) or "") for hit in hits if kind == "string"]
        filled = [value for value in values if value]
        if filled and all(_DATE.match(value) for value in filled):
            found.append(name)
    return sorted(found, key=lambda name: not _says_when_it_came(name))


def orders(
    state: State,
    columns: Mapping[str, Kind],
    roles: Roles,
    facets: Iterable[Facet],
    dates: Sequence[str],
) -> list[Order]:
    """All orders on offer, with the chosen one marked.

    Args:
        state: the search.
        columns: the catalogue's.
        roles: the columns' roles.
        facets: of the whole catalogue; numbers that differ are among them.
        dates: the columns of dates.
    """
    numbers = {facet.name for facet in facets if facet.kind == "number"}
    numbers -= {str(name) for name in (roles.id, roles.sku, roles.barcode, roles.group)}
    found = [Order("", "Best match" if state.is_ranked else "Catalogue order")]
    first = [name for name in (roles.price, roles.sale_price) if name in numbers]
    for name in dict.fromkeys((*first, *dates, *(name for name in columns if name in numbers))):
        label = column_label(str(name))
        if name not in dates:
            found += [
                Order(str(name), f"{label}, low to high"),
                Order(f"-{name}", f"{label}, high to low"),
            ]
        elif name == dates[0] and _says_when_it_came(str(name)):
            found.append(Order(f"-{name}", "Newest"))
        else:
            found.append(Order(f"-{name}", f"{label}, latest first"))
    chosen = _with_column(state.sort, columns, roles)
    if chosen not in {order.value for order in found}:
        label = column_label(chosen.removeprefix("-"))
        found.append(Order(chosen, f"{label}, descending" if chosen[:1] == "-" else label))
    return [Order(one.value, one.label, is_chosen=one.value == chosen) for one in found]


def _says_when_it_came(column: str) -> bool:
    return bool(_APPEARED.search(column)) and not _OTHER_DATES.search(column)


def _with_column(sort: str, columns: Mapping[str, Kind], roles: Roles) -> str:
    """An order by a role as the order by its column."""
    sign, name = ("-", sort[1:]) if sort[:1] == "-" else ("", sort)
    column = None if name in columns else roles.as_dict().get(name)
    return f"{sign}{column}" if isinstance(column, str) else sort
