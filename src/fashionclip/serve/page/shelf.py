"""Pictures that people search by, kept in memory for a while, so that an address can name them."""

import secrets
from hashlib import blake2b

from fashionclip.images.decode import thumbnail
from fashionclip.serve.kept import Kept

LONGEST_PX = 800
MOST_BYTES = 64 << 20
TOKEN_BYTES = 12


class Shelf:
    """The pictures that were searched by last; the ones used longest ago make room for new ones."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Start empty.

        Args:
            most_bytes: of all pictures together.
        """
        self._kept = Kept(most_bytes)
        self._key = secrets.token_bytes(32)  # nobody else can tell a token from a picture

    def put(self, data: bytes, *, max_pixels: int) -> str:
        """Keep a picture upright, at most ``LONGEST_PX``, without whatever else it carried.

        Args:
            data: an encoded picture of any common kind.
            max_pixels: refuse larger ones before decoding them.

        Returns:
            The token to ask for it by; the same picture has the same token.

        Raises:
            ImageError: it is no picture, or too large.
        """
        picture = thumbnail(data, max_px=LONGEST_PX, max_pixels=max_pixels)
        token = blake2b(picture, digest_size=TOKEN_BYTES, key=self._key).hexdigest()
        self._kept.put(token, picture)
        return token

    def get(self, token: str) -> bytes | None:
        """The picture of a token; None if it has made room for others."""
        return self._kept.get(token)
