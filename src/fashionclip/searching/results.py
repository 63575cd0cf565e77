"""``Results``: what one search found, and how far the list goes on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fashionclip.errors import FashionCLIPError
from fashionclip.product import Hit, hit_fields
from fashionclip.searching.directions import AppliedChange, KeptCategory


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
    relevant_ids: Sequence[str] | None = field(default=None, repr=False)
    """All products that were counted for ``total``; None where nothing was ranked."""
    hint: str = ""
    """How to mend a filter that no product passes, in one line, if a stored value is like one that
    it asks for."""
    changes: Sequence[AppliedChange] = ()
    """How hits differ from the start of the search, as ``Query.but`` asked for."""
    kept: KeptCategory | None = None
    """The category that hits are kept to because of the changes."""


Outcome = Results | FashionCLIPError | TypeError | ValueError
"""What becomes of one of many queries: its results, or what is wrong with it."""


def results_fields(results: Results, *, has_groups: bool) -> dict[str, Any]:
    """Results for JSON, on the command line and over HTTP.

    Args:
        results: one page.
        has_groups: whether hits are grouped; then each has ``n_variants``.
    """
    hits = []
    for hit in results.hits:
        shown: dict[str, Any] = {**hit_fields(hit)}
        if has_groups:
            shown["n_variants"] = hit.n_variants
        if hit.explanation is not None:
            matched, percentile = list(hit.explanation.matched), hit.explanation.percentile
            shown["explanation"] = {"matched": matched, "percentile": percentile}
        hits.append(shown)
    return {
        "hits": hits,
        "n_relevant": results.n_relevant,
        "total": results.total,
        "is_total_exact": results.is_total_exact,
        "has_more": results.has_more,
        "cursor": results.cursor,
        **({"hint": results.hint} if results.hint else {}),
        **_change_fields(results),
    }


def _change_fields(results: Results) -> dict[str, Any]:
    """What was changed, and the category that was kept or None; {} where nothing was changed."""
    if not results.changes:
        return {}
    changes = [
        {"text": one.text, "from": one.before, "to": one.after, "strength": one.strength}
        for one in results.changes
    ]
    kept = results.kept
    category = {"column": kept.column, "values": list(kept.values)} if kept else None
    return {"changes": changes, "kept_category": category}
