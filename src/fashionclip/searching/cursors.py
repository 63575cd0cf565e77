"""Cursors: where a page of hits ended, as opaque text that fits into a URL.

A cursor stays good while products come, go and change. A sorted list goes on after the value and
the id of its last hit. A ranked list goes on after the last hit's score; as scores may differ a
little from one computation to the next, a cursor also names the hits around that score. Where a
score depends on other products (words, things to avoid, diversity), it names the last
``MAX_SEEN`` hits, and what is not among them comes next, best first.
"""

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from fashionclip.product import Value
from fashionclip.searching.query import Query, several
from fashionclip.store.filters import Filter

MAX_SEEN = 250
"""Hits that a cursor names at most, 4 bytes each."""
SCORE_NOISE = 1e-5
"""How far two computations of one cosine can be apart."""
PRINT_COMPONENTS = 8
"""Components of an image's vector that a cursor compares; it has no other trace of the image."""
PRINT_TOLERANCE = 3
CHECKSUM_BYTES = 4
OTHER_QUERY = "the cursor belongs to another query: ask as before, or leave the cursor out"

RankKey = tuple[int, float, str]
"""Orders ranked hits: by band, then by negative score, then by id."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended."""

    n_before: int
    """Hits up to here."""
    sorted_at: tuple[Value, str] | None = None
    """Sorted value and id of the last hit, in a list or among sorted hits."""
    ranked_at: RankKey | None = None
    """Hits up to this one were on earlier pages; None if ``seen`` has all of those."""
    seen: frozenset[int] = frozenset()
    """Marks of the hits that are not before ``ranked_at`` and were on earlier pages."""

    def is_seen(self, key: RankKey, mark: int) -> bool:
        """Whether a ranked hit was on an earlier page."""
        return mark in self.seen or (self.ranked_at is not None and key <= self.ranked_at)


START = Place(0)


def place_after(
    ranking: Iterable[tuple[RankKey, int]], *, n_before: int, is_stable: bool, max_seen: int
) -> Place:
    """The place after some ranked hits.

    Args:
        ranking: key and mark of every hit of this page and of those before it, best first.
        n_before: how many hits those are.
        is_stable: whether a score depends on no other product.
        max_seen: hits that may be named.
    """
    shown = list(ranking)
    if is_stable:
        band, negative_score, _ = shown[-1][0]
        edge = (band, negative_score - SCORE_NOISE, "")
        near = [mark for key, mark in shown if key > edge]
        if len(near) <= max_seen:
            return Place(n_before, ranked_at=edge, seen=frozenset(near))
    ranked_at = shown[-max_seen - 1][0] if len(shown) > max_seen else None
    seen = frozenset(mark for _, mark in shown[-max_seen:])
    return Place(n_before, ranked_at=ranked_at, seen=seen)


def mark_of(name: str) -> int:
    """What a cursor keeps of an id or a group."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


def query_digest(query: Query, where: Filter | None) -> str:
    """What a cursor keeps of its query, less its images; how a page is shown does not count.

    Args:
        query: the query.
        where: its filter, so that two ways of writing it are one.
    """
    parts = [
        (query.text or "").strip(),
        query.has_image,
        several(query.similar_to),
        several(query.unlike),
        float(query.weight),
        query.phrases,
        float(query.avoid_weight),
        None if where is None else where.sql,
        query.matches_words,
        query.compares_vectors,
        query.sort,
        float(query.diversity),
        several(query.templates or ()),
        query.group,
    ]
    if several(query.but):
        parts += [several(query.but), float(query.but_strength)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=6).hexdigest()


def vector_print(vector: Float32[np.ndarray, " dim"]) -> list[int]:
    """What a cursor keeps of the vector of a query with images."""
    return [round(1000 * float(number)) for number in vector[:PRINT_COMPONENTS]]


def write_cursor(place: Place, digest: str, image_print: Sequence[int] | None) -> str:
    """A place as text of letters, digits, ``-`` and ``_``.

    Args:
        place: where the page ended.
        digest: of the query.
        image_print: of its vector, if it has images.
    """
    head = [digest, image_print, place.n_before, place.sorted_at, place.ranked_at]
    marks = np.array(sorted(place.seen), "<u4").tobytes()
    data = json.dumps(head, separators=(",", ":")).encode() + b"\n" + marks
    data = hashlib.blake2b(data, digest_size=CHECKSUM_BYTES).digest() + data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def read_cursor(text: str, digest: str) -> tuple[Place, list[int] | None]:
    """The place that a cursor holds, and the print of its query's image.

    Args:
        text: the cursor.
        digest: of the query that it has to belong to.

    Raises:
        ValueError: it is damaged, or belongs to another query.
    """
    raw = b""
    if text.isascii() and "=" not in text:
        with suppress(binascii.Error):
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    checksum, data = raw[:CHECKSUM_BYTES], raw[CHECKSUM_BYTES:]
    if hashlib.blake2b(data, digest_size=CHECKSUM_BYTES).digest() != checksum:
        message = "the cursor is damaged: pass on the one that the page before gave, unchanged"
        raise ValueError(message)
    head, _, marks = data.partition(b"\n")
    own_digest, image_print, n_before, sorted_at, ranked_at = json.loads(head)
    if own_digest != digest:
        raise ValueError(OTHER_QUERY)
    place = Place(
        n_before,
        sorted_at=None if sorted_at is None else tuple(sorted_at),
        ranked_at=None if ranked_at is None else tuple(ranked_at),
        seen=frozenset(np.frombuffer(marks, "<u4").tolist()),
    )
    return place, image_print


def require_image(image_print: Sequence[int] | None, vector: Float32[np.ndarray, " dim"]) -> None:
    """Refuse a cursor that belongs to a query with another image.

    Raises:
        ValueError: it does.
    """
    if image_print is not None:
        apart = np.abs(np.subtract(image_print, vector_print(vector)))
        if apart.max(initial=0) > PRINT_TOLERANCE:
            raise ValueError(OTHER_QUERY)
