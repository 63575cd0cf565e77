"""Products' pictures, small: read from where the catalogue has them, kept in memory.

A thumbnail's tag is made of the picture's own digest, which the index keeps, so a browser that
has it already is answered without the picture being read.
"""

from dataclasses import dataclass

from fashionclip.errors import FashionCLIPError
from fashionclip.images.decode import thumbnail
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.index import Snapshot, rows
from fashionclip.serve.kept import Kept

WIDTHS_PX = (160, 320, 400, 640, 1200)
"""A width that is asked for becomes the next larger of these."""
TALLEST = 2  # times its width
MOST_BYTES = 64 << 20  # of all thumbnails that are kept


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A product's picture at one width."""

    jpeg: bytes
    tag: str
    """Another picture or another width has another."""


class Thumbnails:
    """Makes thumbnails; those that were asked for last are kept. Safe from any thread."""

    def __init__(self, policy: FetchPolicy, *, most_bytes: int = MOST_BYTES) -> None:
        """Start with none.

        Args:
            policy: how pictures that lie on the web may be fetched.
            most_bytes: of those that are kept.
        """
        self._policy = policy
        self._kept = Kept(most_bytes)

    def tag(self, seen: Snapshot, product_id: str, width_px: int) -> str | None:
        """The tag of a product's thumbnail; None if there is no such product, or no picture."""
        place = seen.places.get(product_id)
        if place is None or seen.table.column(rows.IMAGE)[place].as_py() is None:
            return None
        return f"{seen.table.column(rows.KEY)[place].as_py().hex()}-{at_least(width_px)}"

    def get(self, seen: Snapshot, product_id: str, width_px: int) -> Thumbnail | None:
        """A product's picture; None where there is none that can be had.

        Args:
            seen: the index.
            product_id: whose picture.
            width_px: wanted width; a smaller picture keeps its own.
        """
        tag = self.tag(seen, product_id, width_px)
        if tag is None:
            return None
        jpeg = self._kept.get(tag)
        if jpeg is None:
            location = seen.table.column(rows.IMAGE)[seen.places[product_id]].as_py()
            width = at_least(width_px)
            try:
                picture = read_image_bytes(location, policy=self._policy)
                jpeg = thumbnail(picture, max_px=TALLEST * width, max_width_px=width)
            except FashionCLIPError:  # it has moved or broken since it was indexed
                return None
            self._kept.put(tag, jpeg)
        return Thumbnail(jpeg, tag)


def at_least(width_px: int) -> int:
    """The width that is made for one that is asked for."""
    return next((width for width in WIDTHS_PX if width >= width_px), WIDTHS_PX[-1])
