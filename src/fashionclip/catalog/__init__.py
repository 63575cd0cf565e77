"""Tables and images in, a stream of products and rejects out.

``catalog``    ``Catalog``, the entry point
``roles``      which column plays which part
``sources``    which files a path means, the table of formats, and where a row's image is
``delimited``, ``lines``, ``parquet``   the formats, each a ``Table`` of ``rows``
``lines``      also compression and encoding of text files
``rows``       what all formats have in common; cells to values, highlights and images
``check``      what is wrong with a catalogue, before it is indexed

Nothing here knows of models and vectors.
"""

from fashionclip.catalog.catalog import MAX_CAPTION_CHARS, Catalog
from fashionclip.catalog.check import CheckReport, check_catalog
from fashionclip.product import Kind, Roles

__all__ = ["MAX_CAPTION_CHARS", "Catalog", "CheckReport", "Kind", "Roles", "check_catalog"]
