"""Search and tag a fashion catalogue by text and images.

The public names are imported when they are first used, so ``import fashionclip`` loads no engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.errors import FashionCLIPError
    from fashionclip.index import Index, search
    from fashionclip.indexing import index_catalog
    from fashionclip.model import FashionCLIP
    from fashionclip.product import Hit, Product, Reject

__version__ = "0.1.0"

_MODULES = {
    "Catalog": "fashionclip.catalog",
    "FashionCLIP": "fashionclip.model",
    "FashionCLIPError": "fashionclip.errors",
    "Hit": "fashionclip.product",
    "Index": "fashionclip.index",
    "Product": "fashionclip.product",
    "Reject": "fashionclip.product",
    "index_catalog": "fashionclip.indexing",
    "search": "fashionclip.index",
}

__all__ = [
    "Catalog",
    "FashionCLIP",
    "FashionCLIPError",
    "Hit",
    "Index",
    "Product",
    "Reject",
    "index_catalog",
    "search",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        message = f"module 'fashionclip' has no attribute '{name}'"
        raise AttributeError(message)
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
