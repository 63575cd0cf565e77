"""``FCLIPDataset``: the original's list of products, with rows in order and never merged."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fashionclip.errors import CatalogError, FashionCLIPError
from fashionclip.images.decode import ImageSource, fetch_image, open_image
from fashionclip.images.fetch import resolve_location

SOURCE_TYPES = ("LOCAL", "S3", "URL")
TILE_PX = 224  # of a product in display_products
LINE_PX = 14  # height of a line of text
MAX_LINE_CHARS = 34


class FCLIPDataset:
    """A list of products with images and captions, each ``{id, image, caption, ...}``.

    Rows keep their order. Where an id occurs twice, both rows are encoded and found, and
    ``id_to_idx`` has the first.
    """

    def __init__(
        self,
        name: str,
        image_source_path: str | Path | None = None,
        image_source_type: str | None = None,
        catalog: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Read the products; images are not read yet.

        Args:
            name: of the data set.
            image_source_path: folder or URL that image names are relative to.
            image_source_type: ``local``, ``s3`` or ``url``; the path implies it.
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
        self.catalog = _object_array(catalog)
        self.ids = np.array([str(product["id"]) for product in catalog], dtype=np.str_)
        self.images = _object_array([product["image"] for product in catalog])
        self.images_path = _object_array([_absolute(image, base) for image in self.images])
        self.captions = np.array([str(product["caption"]) for product in catalog], dtype=np.str_)
        self.id_to_idx: dict[str, int] = {}
        for i, product_id in enumerate(self.ids):
            self.id_to_idx.setdefault(str(product_id), i)

    def __len__(self) -> int:
        """The number of products."""
        return len(self.ids)

    def random_product_id(self) -> str:
        """The id of a random product.

        Raises:
            IndexError: there are no products.
        """
        return str(random.choice(self.ids))

    def hash(self) -> str:
        """Digest of ids, captions and image contents; reads every image."""
        digest = hashlib.sha256()
        rows = zip(self.ids, self.images_path, self.captions, strict=True)
        for product_id, image, caption in rows:
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
        """Draw products side by side on one image, which notebooks display.

        Args:
            ids: products, also as the array of ids that ``dataset.ids[found]`` returns.
            fields: written under each product that has them.
            columns: products per row.
            max_images: number of products drawn.
            _: the original's sizes in inches, which are ignored.

        Raises:
            KeyError: no product has this id.
        """
        rows = [self.id_to_idx[str(name)] for name in np.asarray(ids).reshape(-1)][:max_images]
        height = TILE_PX + LINE_PX * len(fields) + 8
        n_columns = max(1, min(columns, len(rows)))
        size = (n_columns * TILE_PX, max(1, -(-len(rows) // n_columns)) * height)
        sheet = Image.new("RGB", size, "white")
        pen = ImageDraw.Draw(sheet)
        for i_tile, row in enumerate(rows):
            left, top = i_tile % n_columns * TILE_PX, i_tile // n_columns * height
            tile = _tile(self.images_path[row])
            sheet.paste(tile, (left + (TILE_PX - tile.width) // 2, top))
            product = self.catalog[row]
            for i_line, name in enumerate(name for name in fields if name in product):
                text = " ".join(str(product[name]).split())[:MAX_LINE_CHARS]
                text = text.encode("latin-1", "replace").decode("latin-1")  # all the font has
                pen.text((left + 4, top + TILE_PX + i_line * LINE_PX), text, fill="black")
        return sheet

    def _retrieve_row(self, id: str | int) -> Mapping[str, Any]:
        product: Mapping[str, Any] = self.catalog[self.id_to_idx[str(id)]]
        return product


def _object_array(items: Sequence[Any]) -> np.ndarray:
    """A 1-D array of any objects; ``np.array`` would make a 2-D one of lists or arrays."""
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def _absolute(image: ImageSource, base: str | None) -> ImageSource:
    if isinstance(image, str | Path):
        return resolve_location(str(image), base=base) if base is not None else str(image)
    return image


def _content_digest(image: ImageSource) -> bytes:
    """Digest of an image's content, or of its location if it cannot be read."""
    digest = hashlib.sha256()
    try:
        content = fetch_image(image)
    except FashionCLIPError:
        content = b"missing:" + str(image).encode("utf-8", "replace")
    if isinstance(content, np.ndarray | Image.Image):
        pixels = np.asarray(content)
        content = repr((pixels.shape, pixels.dtype.str)).encode() + pixels.tobytes()
    digest.update(content)
    return digest.digest()


def _tile(image: ImageSource) -> Image.Image:
    """A small copy of an image; grey if it cannot be read."""
    try:
        tile = open_image(fetch_image(image)).copy()
    except FashionCLIPError:
        return Image.new("RGB", (TILE_PX, TILE_PX), "lightgrey")
    tile.thumbnail((TILE_PX, TILE_PX))
    return tile
