"""Tables and pictures in, a stream of products and rejects out.

``catalog``    ``Catalog``: what everything else uses
``places``     which files a path means; where a row's picture is
``delimited``  CSV and its kin, on ``records`` (rows out of lines) and ``lines`` (encodings)
``json_lines`` JSON Lines
``parquet``    Parquet, pictures in a column too
``roles``      which column plays which part
``cells``      cells to values of one kind a column, to highlights and images
``rows``       what all formats have in common
``seen``       identifiers met so far
``check``      what is wrong with a catalogue, before time is spent on it

This room knows nothing of models and vectors.
"""

from fashionclip.catalog.catalog import MAX_CAPTION_CHARS, Catalog
from fashionclip.catalog.check import CheckReport, check_catalog
from fashionclip.product import Kind

__all__ = ["MAX_CAPTION_CHARS", "Catalog", "CheckReport", "Kind", "check_catalog"]
