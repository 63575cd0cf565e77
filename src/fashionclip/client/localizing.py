"""``Localizing``: the methods of ``Client`` that look inside images: garments, places of words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fashionclip.client.answers import ImageInput, read_hit
from fashionclip.client.connection import Connection
from fashionclip.client.parts import image_field, in_path
from fashionclip.product import Hit


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int
    score: float
    """In 0…1."""


@dataclass(frozen=True, slots=True)
class FoundGarment:
    """A garment of a photograph, and the products that look like it."""

    garment: str
    box: Box
    """Pixels of the photograph, upright."""
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class WordPlaces:
    """Where a word is on a product's picture."""

    word: str
    score: float
    """How strong it is at its strongest place, in 0…1."""
    boxes: tuple[Box, ...]
    """Pixels of ``image(product_id, width_px=640)``, strongest first; empty where the word is not
    in the picture."""


class Localizing:
    """Looks inside images through a connection."""

    _connection: Connection

    def garments(
        self,
        image: ImageInput,
        garments: Sequence[str] | None = None,
        *,
        where: str | None = None,
        k: int = 10,
        group: bool = False,
        fields: Sequence[str] | None = None,
    ) -> list[FoundGarment]:
        """Find the garments of a photograph, and for each the products that look like it.

        Args:
            image: the photograph.
            garments: what to look for, such as the shop's own categories; None for the usual ones.
            where: a filter over the catalogue's columns.
            k: hits of each garment.
            group: only the best hit of each group of variants.
            fields: columns or roles that hits have; None for all.

        Returns:
            The strongest garment first; empty where none stands out.

        Raises:
            RefusedError: the service rejects the request; the message says why.
            ServiceError: the service cannot be reached.
            ImageError: the image file cannot be read.
        """
        given = {"garments": garments, "where": where, "fields": fields}
        body: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
        body |= {"k": k, "group": group, **image_field(image)}
        answer = self._connection.json("POST", "/v1/garments", body)
        own = ("n_variants",) if group else ()
        return [
            FoundGarment(
                one["garment"],
                Box(**one["box"], score=one["score"]),
                tuple(read_hit(hit, own) for hit in one["hits"]),
            )
            for one in answer["garments"]
        ]

    def localize(self, product_id: str, words: Sequence[str]) -> list[WordPlaces]:
        """Where words are on a product's picture.

        Args:
            product_id: the product.
            words: what to look for, at most 16.

        Raises:
            RefusedError: there is no such product with a picture (``code`` is ``not_found``), or
                the words are refused.
            ServiceError: the service cannot be reached.
        """
        query = urlencode([("word", word) for word in words])
        answer = self._connection.json("GET", f"/v1/localize/{in_path(product_id)}?{query}")
        return [_places(one) for one in answer["words"]]

    def map_image(self, product_id: str, word: str) -> bytes:
        """A product's picture with a map over it that shows where a word is, as a PNG.

        Raises:
            RefusedError, ServiceError: as ``localize``.
        """
        path = f"/v1/maps/{in_path(product_id)}?{urlencode({'word': word})}"
        return self._connection.answer("GET", path).content


def _places(fields: Mapping[str, Any]) -> WordPlaces:
    boxes = tuple(Box(**box) for box in fields["boxes"])
    return WordPlaces(fields["word"], fields["score"], boxes)
