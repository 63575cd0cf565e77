"""What a search is called, and how much it found."""

from dataclasses import replace

from fashionclip.searching import Results
from fashionclip.serve.page.state import State
from fashionclip.serve.page.texts import clipped

MAX_HEADING_CHARS = 90


def heading(state: State, *, is_whole: bool = False) -> str:
    """What the results are, in a few words.

    Args:
        state: the search.
        is_whole: with a long text to its end.
    """
    text = state.text if is_whole else clipped(state.text, MAX_HEADING_CHARS)
    if state.but:
        like = replace(state, but=())
        return f"{heading(like, is_whole=is_whole)}, but {', '.join(state.but)}"
    pick = "your picture" if state.image else "your pick" if state.like else ""
    if text:
        return f"“{text}”, like {pick}" if pick else f"“{text}”"
    if pick:
        return f"Like {pick}"
    if state.avoid:
        return f"Without “{clipped(state.avoid[0], MAX_HEADING_CHARS)}”"
    if state.unlike:
        return "Something else"
    return "Products" if state.is_filtered else "All products"


def count_label(state: State, page: Results) -> str:
    """How many products there are, and which of them are shown.

    Args:
        state: the search.
        page: what it found.
    """
    count, total = len(page.hits), page.total
    if not count:
        return "No products"
    first, last = state.offset + 1, state.offset + count
    if total is None:
        best = f"The {last} best matches" if last > 1 else "The best match"
        return best if state.offset == 0 else f"Best matches, {first:,} to {last:,}"
    if state.is_ranked and not total:
        return "Nothing here fits"
    if state.offset >= total:
        return "Weaker matches"
    number = f"{total:,}" if page.is_total_exact else f"{total:,}+"
    noun = "product" if total == 1 and page.is_total_exact else "products"
    if state.offset:
        span = f"{first:,} to {min(last, total) if page.is_total_exact else last:,} of {number}"
        return f"{span} products that fit" if state.is_ranked else f"{span} products"
    fit = ("fits" if noun == "product" else "fit") if state.is_ranked else ""
    return f"{number} {noun} {fit}".rstrip()


def csv_label(page: Results, *, most: int) -> str:
    """What a download of the list holds.

    Args:
        page: a page of the list.
        most: rows of a download.
    """
    is_cut = page.total is not None and (page.total > most or not page.is_total_exact)
    return f"Export the first {most:,} as CSV" if is_cut else "Export as CSV"
