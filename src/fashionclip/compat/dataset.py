"""``FCLIPDataset``: the original's list of products, rows in order and never merged."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fashionclip.errors import CatalogError, FashionCLIPError
from fashionclip.images.decode import decode_image, to_rgb
from fashionclip.images.fetch import read_image_bytes, resolve_location
from fashionclip.model import ImageSource

SOURCE_TYPES = ("LOCAL", "S3", "URL")
TILE_PX = 224  # of a product in ``display_products``
CAPTION_PX = 14  # height of a line under it
CAPTION_CHARS = 34  # of such a line


class FCLIPDataset:
    """A list of products with pictures and captions, each ``{id, image, caption, ...}``.

    Rows keep their order and are never merged: where an id comes twice, both rows are encoded
    and found, and ``id_to_idx`` has the first.
    """

    def __init__(
        self,
        name: str,
        image_source_path: str | Path | None = None,
        image_source_type: str | None = None,
        catalog: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Read the products; no picture is touched yet.

        Args:
            name: what the data set is called.
            image_source_path: folder or URL that picture names are relative to.
            image_source_type: ``local``, ``s3`` or ``url``; the path says it already.
            catalog: the products, with ``id``, ``image`` and ``caption`` at least.

        Raises:
            CatalogError: no products, or one without an id, image or caption.
            ValueError: another ``image_source_type``.
        """
        if image_source_type is not None and image_source_type.upper() not in SOURCE_TYPES:
            message = f"image_source_type is {image_source_type!r}; it is local, s3 or url"
            raise ValueError(message)
        if catalog is None:
            message = (
                f"no products for the data set {name!r}: pass catalog=[{{'id', 'image', "
                "'caption'}, ...]; the authors' own 'FF' was never published"
            )
            raise CatalogError(message)
        for row, product in enumerate(catalog, start=1):
            missing = [field for field in ("id", "image", "caption") if field not in product]
            if missing:
                message = f"product {row} of the data set {name!r} has no {', '.join(missing)}"
                raise CatalogError(message)
        base = None if image_source_path is None else str(image_source_path)
        self.name = name
        self.catalog = _objects(catalog)
        self.ids = np.array([str(product["id"]) for product in catalog], dtype=np.str_)
        self.images = _objects([product["image"] for product in catalog])
        self.images_path = _objects([_located(image, base) for image in self.images])
        self.captions = np.array([str(product["caption"]) for product in catalog], dtype=np.str_)
        self.id_to_idx: dict[str, int] = {}
        for i, product_id in enumerate(self.ids):
            self.id_to_idx.setdefault(str(product_id), i)

    def __len__(self) -> int:
        """Count the products."""
        return len(self.ids)

    def random_product_id(self) -> str:
        """Pick a product, any.

        Raises:
            IndexError: there are none.
        """
        return str(random.choice(self.ids))

    def hash(self) -> str:
        """Digest of ids, captions and the pictures' own bytes; reads every picture."""
        digest = hashlib.sha256()
        for product_id, image, caption in zip(
            self.ids, self.images_path, self.captions, strict=True
        ):
            fields = json.dumps([str(product_id), str(caption)]).encode()
            digest.update(hashlib.sha256(fields).digest() + _content_digest(image))
        return digest.hexdigest()

    def display_products(
        self,
        ids: Sequence[str] | np.ndarray,
        fields: Sequence[str] = ("id", "short_description"),
        *,
        columns: int = 5,
        max_images: int = 15,
        **_: object,
    ) -> Image.Image:
        """Lay products out on one picture, each with some of its fields; notebooks show it.

        Args:
            ids: products, also as the array of ids that ``dataset.ids[found]`` gives.
            fields: what to write under them; a field that a product lacks is left out.
            columns: products beside each other.
            max_images: products shown.
            _: the original's sizes in inches, which a picture has no use for.

        Raises:
            KeyError: no product has this id.
        """
        rows = [self.id_to_idx[str(name)] for name in np.asarray(ids).reshape(-1)][:max_images]
        n_lines = len(fields)
        height = TILE_PX + CAPTION_PX * n_lines + 8
        n_columns = max(1, min(columns, len(rows)))
        size = (n_columns * TILE_PX, max(1, -(-len(rows) // n_columns)) * height)
        sheet = Image.new("RGB", size, "white")
        pen = ImageDraw.Draw(sheet)
        for place, row in enumerate(rows):
            left, top = place % n_columns * TILE_PX, place // n_columns * height
            picture = _thumbnail(self.images_path[row])
            sheet.paste(picture, (left + (TILE_PX - picture.width) // 2, top))
            product = self.catalog[row]
            for line, name in enumerate(name for name in fields if name in product):
                text = " ".join(str(product[name]).split())[:CAPTION_CHARS]
                text = text.encode("latin-1", "replace").decode("latin-1")  # the font's letters
                pen.text((left + 4, top + TILE_PX + line * CAPTION_PX), text, fill="black")
        return sheet

    def _retrieve_row(self, id: str | int) -> Mapping[str, Any]:
        product: Mapping[str, Any] = self.catalog[self.id_to_idx[str(id)]]
        return product


def _objects(items: Sequence[Any]) -> np.ndarray:
    """An array of whatever the items are; NumPy would make lists of lists of arrays of them."""
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def _located(image: ImageSource, base: str | None) -> ImageSource:
    if isinstance(image, str | Path):
        return resolve_location(str(image), base=base) if base is not None else str(image)
    return image


def _content_digest(image: ImageSource) -> bytes:
    """Digest of what a picture is, not of what it is called."""
    digest = hashlib.sha256()
    if isinstance(image, np.ndarray | Image.Image):
        pixels = np.asarray(image)
        digest.update(repr((pixels.shape, pixels.dtype.str)).encode() + pixels.tobytes())
        return digest.digest()
    try:
        data = image if isinstance(image, bytes) else read_image_bytes(str(image))
        digest.update(data)
    except FashionCLIPError:  # a picture that is not there is known by its place alone
        digest.update(b"missing:" + str(image).encode("utf-8", "replace"))
    return digest.digest()


def _thumbnail(image: ImageSource) -> Image.Image:
    """A small copy; grey where the picture cannot be had. Never cached under a file name."""
    try:
        if isinstance(image, str | Path):
            image = read_image_bytes(str(image))
        if isinstance(image, bytes):
            image = decode_image(image)
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    except FashionCLIPError:
        return Image.new("RGB", (TILE_PX, TILE_PX), "lightgrey")
    picture = to_rgb(picture)
    picture.thumbnail((TILE_PX, TILE_PX))
    return picture
