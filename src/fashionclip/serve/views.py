"""Further views of a product: where they are, by its columns and the place of its main image.

The columns hold what the catalogue says, which a client with write access can change. So a file is
a view only in the folder of the main image or below it, and a web address only where the main
image has one too.
"""

import os
from collections.abc import Mapping

from fashionclip.catalog.image_cells import image_locations_of
from fashionclip.images.fetch import is_url, resolve_location
from fashionclip.product import Roles, Value
from fashionclip.store.blobs import is_blob

MAX_VIEWS = 12
_WEB = ("http://", "https://")


def further_views(columns: Mapping[str, Value], roles: Roles, main: str | None) -> list[str]:
    """The locations of a product's further views, at most ``MAX_VIEWS``.

    Args:
        columns: the product's.
        roles: say which columns name images.
        main: the location of the main image.
    """
    cells = [columns.get(name) for name in (roles.image, *roles.further_images) if name]
    named = (name for cell in cells if isinstance(cell, str) for name in image_locations_of(cell))
    names = [name.strip() for name in named if isinstance(name, str)]
    if main is None or is_blob(main) or not names:
        return []
    first = names[0] if roles.image and columns.get(roles.image) else ""
    base = main.removesuffix(first).rstrip("/") if first else ""
    folder = base if base and base != main.rstrip("/") else os.path.dirname(main)  # noqa: PTH120
    found = dict.fromkeys(resolve_location(name, base=folder) for name in names if name != first)
    allowed = [one for one in found if one != main and _may_be_read(one, main, folder)]
    return allowed[:MAX_VIEWS]


def _may_be_read(location: str, main: str, folder: str) -> bool:
    if main.lower().startswith(_WEB):
        return location.lower().startswith(_WEB)
    has_steps_up = ".." in location.replace("\\", "/").split("/")
    is_below = bool(folder.strip("/")) and location.startswith(f"{folder.rstrip('/')}/")
    return is_url(location) == is_url(main) and is_below and not has_steps_up
