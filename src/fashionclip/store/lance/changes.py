"""What two versions of a Lance table do not share, without reading what they do share.

Fragments do not change: a write adds some, and marks rows of others as deleted. So most of a table
is known to be the same from its metadata, and of a fragment that only lost rows, those are read.
"""

from typing import Any

import numpy as np

from fashionclip.store.lance import schema

DIGESTS = [schema.ID, schema.KEY, schema.ROW, schema.CRC]
MAX_ROWS_BY_ADDRESS = 5_000
"""So many lost rows are read one by one; the whole fragment is read where there are more."""

Dataset = Any
Fragment = Any
Digests = dict[str, tuple[object, ...]]


def changed_rows(before: Dataset, after: Dataset) -> tuple[Digests, Digests]:
    """Digests by product id, of the rows that are in one version only: before, after."""
    old = {fragment.fragment_id: fragment for fragment in before.get_fragments()}
    new = {fragment.fragment_id: fragment for fragment in after.get_fragments()}
    whole_old, whole_new = [], []
    lost = np.empty(0, np.uint64)
    for number in old.keys() | new.keys():
        pair = old.get(number), new.get(number)
        if pair[0] is None or pair[1] is None:
            whole_old += [pair[0]] if pair[0] is not None else []
            whole_new += [pair[1]] if pair[1] is not None else []
        elif pair[0].metadata.files != pair[1].metadata.files:
            whole_old.append(pair[0])
            whole_new.append(pair[1])
        elif repr(pair[0].metadata) != repr(pair[1].metadata):
            gone = np.setdiff1d(_addresses(before, pair[0]), _addresses(after, pair[1]))
            if len(gone) > MAX_ROWS_BY_ADDRESS:
                whole_old.append(pair[0])
                whole_new.append(pair[1])
            else:
                lost = np.concatenate([lost, gone])
    removed = _digests(before, fragments=whole_old) if whole_old else {}
    if len(lost):
        addresses = ", ".join(map(str, lost.tolist()))
        removed |= _digests(before, filter=f"_rowaddr IN ({addresses})")
    return removed, _digests(after, fragments=whole_new) if whole_new else {}


def _addresses(table: Dataset, fragment: Fragment) -> np.ndarray:
    scanner = table.scanner(columns=[], fragments=[fragment], with_row_address=True)
    return np.asarray(scanner.to_table()["_rowaddr"].to_numpy(), np.uint64)


def _digests(table: Dataset, **chosen: object) -> Digests:
    rows = table.scanner(columns=DIGESTS, **chosen).to_table()
    names, *rest = (rows[name].to_pylist() for name in DIGESTS)
    return dict(zip(names, zip(*rest, strict=True), strict=True))
