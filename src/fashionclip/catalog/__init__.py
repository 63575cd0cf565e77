"""Tables and images in, a stream of products and rejects out.

``catalog``    ``Catalog``, the entry point
``tables``     the table formats: files in, rows of cells out
``feeds``      exports of shop systems: rows into products, by rules that are data
``roles``      which column plays which part
``survey``     the first pass: what each column holds, and its kind; ``shapes`` of single cells
``values``     cells to values of their column's type
``money``      amounts as shops write them; ``html_text`` HTML as text
``image_cells``, ``image_locations``   which images a row names, and where they are
``summary``    what was understood of a catalogue
``check``, ``faults``   what is wrong with it, before it is indexed

Nothing here knows of models and vectors.
"""

from fashionclip.catalog.catalog import MAX_CAPTION_CHARS, Catalog
from fashionclip.catalog.check import CheckReport, check_catalog
from fashionclip.catalog.summary import CatalogSummary, summarize
from fashionclip.product import Kind, Roles

__all__ = [
    "MAX_CAPTION_CHARS",
    "Catalog",
    "CatalogSummary",
    "CheckReport",
    "Kind",
    "Roles",
    "check_catalog",
    "summarize",
]
