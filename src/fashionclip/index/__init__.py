"""Vectors and products on disk: stored, kept whole, and found again.

An index is a folder (``shop.lance``) that holds one model's vectors beside the catalogue's
columns. This room knows vectors and products; it never encodes anything and knows no model
beyond its name and fingerprint. LanceDB does the storing today. Whatever does it tomorrow
(PostgreSQL with pgvector for those who outgrow one machine) needs the dozen functions of
:class:`Store` and nothing else:

search    ``nearest``, ``text_search``, ``get``, ``vectors``, ``columns`` (:class:`Searchable`)
reading   ``locations``, ``count``
writing   ``writing`` (one at a time), ``ensure_columns``, ``upsert``, ``remove``, ``optimize``
care      ``known`` (what is stored, 40 bytes a product), ``iter_ids``, ``verify``, ``info``
"""

from fashionclip.index.columns import row_digest
from fashionclip.index.folder import Manifest
from fashionclip.index.known import Known
from fashionclip.index.lance import Index
from fashionclip.index.snapshot import Snapshot
from fashionclip.index.store import IndexInfo, Searchable, Store, VerifyReport
from fashionclip.product import Kind, kind_of

__all__ = [
    "Index",
    "IndexInfo",
    "Kind",
    "Known",
    "Manifest",
    "Searchable",
    "Snapshot",
    "Store",
    "VerifyReport",
    "kind_of",
    "row_digest",
]
