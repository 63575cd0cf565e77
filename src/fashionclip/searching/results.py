"""``Results``: what one search found, and how far the list goes on."""

from collections.abc import Sequence
from dataclasses import dataclass

from fashionclip.errors import FashionCLIPError
from fashionclip.product import Hit


@dataclass(frozen=True, slots=True)
class Results:
    """One page of hits: those that fit, best first or as sorted, then weaker ones."""

    hits: Sequence[Hit]
    n_relevant: int
    """How many of the hits, from the first on, fit the query; the rest are below the relevance
    threshold."""
    has_more: bool = False
    """Whether there are hits after this page."""
    cursor: str | None = None
    """For ``Query.cursor`` of the next page; None at the end."""
    total: int | None = None
    """How many products fit, or groups where hits are grouped; None if it was not asked for."""
    is_total_exact: bool = True
    """False if at least ``total`` products fit."""
    relevant_ids: Sequence[str] | None = None
    """All products that were counted for ``total``; None where nothing was ranked."""


Outcome = Results | FashionCLIPError | TypeError | ValueError
"""What becomes of one of many queries: its results, or what is wrong with it."""
