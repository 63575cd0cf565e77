"""Images as the bytes of a file."""

import io

import pillow_heif
from PIL import Image


def image_bytes(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Encode an image; ``options`` are Pillow's, and JPEGs have a quality of 90 by default."""
    if kind == "JPEG":
        options = {"quality": 90} | options
    file = io.BytesIO()
    if kind == "HEIF":  # not known to Pillow
        pillow_heif.from_pillow(image).save(file, **options)
        return file.getvalue()
    image.save(file, kind, **options)
    return file.getvalue()
