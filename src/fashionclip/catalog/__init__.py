"""A shop's catalogue: tables and their pictures as a stream of products and rejects."""

from fashionclip.catalog.catalog import Catalog
from fashionclip.catalog.check import CheckReport, check_catalog
from fashionclip.catalog.columns import Kind

__all__ = ["Catalog", "CheckReport", "Kind", "check_catalog"]
