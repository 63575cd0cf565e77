"""HTML pages that load nothing from elsewhere: their templates, and thumbnails as data URIs."""

THUMBNAIL_PX = 360
"""Longest side of a thumbnail: sharp at 180 CSS pixels on a dense screen, about 12 kB."""


def render_page(template: str, **context: object) -> str:
    """A whole HTML document.

    All text is escaped, and the page's security policy forbids scripts and foreign content.

    Args:
        template: its file in ``templates/``.
        **context: the template's variables.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fashionclip.cli"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(context)


def thumbnail_uri(image: bytes | None, *, max_px: int = THUMBNAIL_PX) -> str | None:
    """A thumbnail for a page; None where there is no image or it cannot be decoded."""
    from fashionclip.errors import ImageError
    from fashionclip.images import decode

    if image is None:
        return None
    try:
        return decode.thumbnail_uri(image, max_px=max_px)
    except ImageError:
        return None
