"""The ids that differ from an unknown one by a slip: letter case, or one character."""

import string
from collections.abc import Callable, Iterator

MAX_NAMED = 3
MAX_CHARS = 40  # of an id whose slips are tried: two thousand look-ups at most


def near_ids(product_id: str, is_known: Callable[[str], bool]) -> list[str]:
    """At most three ids that exist and look like one that does not; the likeliest first.

    Every slip is looked up, so that the time does not depend on the size of the catalogue.

    Args:
        product_id: the unknown id.
        is_known: whether there is a product of an id.
    """
    if not 1 < len(product_id) <= MAX_CHARS:
        return []
    found: list[str] = []
    for slip in dict.fromkeys(_slips(product_id)):
        if slip and slip != product_id and is_known(slip):
            found.append(slip)
            if len(found) == MAX_NAMED:
                break
    return found


def no_product(product_id: str, is_known: Callable[[str], bool]) -> str:
    """What to say of an id that no product has."""
    near = near_ids(product_id, is_known)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"there is no product {product_id!r:.200} here{hint}"


def _slips(text: str) -> Iterator[str]:
    yield from (text.strip(), text.upper(), text.lower(), text.lstrip("0"))
    pairs = [(text[:i], text[i:]) for i in range(len(text) + 1)]
    yield from (left + right[1] + right[0] + right[2:] for left, right in pairs if len(right) > 1)
    yield from (left + right[1:] for left, right in pairs if right)
    letters = dict.fromkeys([*text, *string.digits, "-", "_", *string.ascii_letters])
    yield from (left + letter + right for left, right in pairs for letter in letters)
    yield from (left + letter + right[1:] for left, right in pairs if right for letter in letters)
