"""Queries over a store: by text, image or stored product; ranking, relevance, pages.

A query becomes one unit vector, the store returns its neighbours, and words are matched with the
catalogue's own. Both rankings are fused. ``search_many`` answers many queries with one pass of the
model for all texts, one for all images, and one search of the store; every search of this package
goes through it.
"""

from fashionclip.searching.columns import named_column
from fashionclip.searching.comparatives import known_changes
from fashionclip.searching.directions import AppliedChange, KeptCategory
from fashionclip.searching.garments import (
    GarmentResults,
    garment_fields,
    search_crops,
    search_garments,
)
from fashionclip.searching.query import BUT_STRENGTH, MAX_BUT_STRENGTH, MAX_CHANGES, Mode, Query
from fashionclip.searching.ranking import group_column
from fashionclip.searching.results import Outcome, Results, results_fields
from fashionclip.searching.search import not_found, search_many

__all__ = [
    "BUT_STRENGTH",
    "MAX_BUT_STRENGTH",
    "MAX_CHANGES",
    "AppliedChange",
    "GarmentResults",
    "KeptCategory",
    "Mode",
    "Outcome",
    "Query",
    "Results",
    "garment_fields",
    "group_column",
    "known_changes",
    "named_column",
    "not_found",
    "results_fields",
    "search_crops",
    "search_garments",
    "search_many",
]
