"""Catalogue columns as the store keeps them: four kinds, safe names, one digest a row.

A kind only ever widens (integer → number → string, boolean → string), so that no catalogue
can lose a value by coming in a second time with other types.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b

import pyarrow as pa

from fashionclip.product import Kind, Product, Value, kind_of, widen

ARROW_TYPES: Mapping[Kind, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}
ROW_DIGEST_BYTES = 16  # as unlikely to repeat as an MD5, without its known collisions

_UNSAFE = re.compile(r"[.`\"~\x00-\x1f\ud800-\udfff]|^_|^$")
_ESCAPE = re.compile(r"~([0-9a-f]*);")


def stored_name(name: str) -> str:
    """A column's name in the store: its own, with what LanceDB cannot take written as ~hex;."""
    return _UNSAFE.sub(lambda match: f"~{match[0].encode('utf-8', 'surrogatepass').hex()};", name)


def shown_name(name: str) -> str:
    """The catalogue's name of a stored column; undoes ``stored_name``."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1]).decode("utf-8", "surrogatepass"), name)


def kinds_of(products: Iterable[Product]) -> dict[str, Kind]:
    """The kinds that some products need; a column without a single value is left out."""
    kinds: dict[str, Kind] = {}
    for product in products:
        for name, value in product.columns.items():
            kind = widen(kinds.get(name), kind_of(value))
            if kind is not None:
                kinds[name] = kind
    return kinds


def fit(value: Value, kind: Kind) -> Value:
    """A value as a column of this kind stores it; NaN and infinities become None, as in JSON."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind == "number":
        return float(value)
    if kind == "string":
        return clean_text(value) if isinstance(value, str) else _as_text(value)
    return value


def clean_text(text: str) -> str:
    """Text without the lone surrogates that UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _as_text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def row_digest(product: Product, kinds: Mapping[str, Kind]) -> bytes:
    """A digest of all that is stored of a product except its vector: 16 bytes.

    Missing values do not count, so that a new column leaves the old rows as they are.

    Args:
        product: what is to be stored, or was read back.
        kinds: the index's columns; a value counts as its column stores it.
    """
    columns = product.columns.items()
    stored = {name: fit(value, kinds[name]) for name, value in columns if value is not None}
    content = [
        clean_text(product.caption),
        clean_text(product.image) if isinstance(product.image, str) else None,
        sorted((name, value) for name, value in stored.items() if value is not None),
    ]
    text = json.dumps(content, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=ROW_DIGEST_BYTES).digest()


def widened_by(kinds: Mapping[str, Kind], wanted: Mapping[str, Kind]) -> dict[str, Kind]:
    """The wanted columns that are not there or too narrow, with the kind they need."""
    wider = {name: widen(kinds.get(name), kind) for name, kind in wanted.items()}
    return {name: kind for name, kind in wider.items() if kind and kind != kinds.get(name)}
