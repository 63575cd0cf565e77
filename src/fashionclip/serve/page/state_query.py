"""A state of the page as a query: what no longer exists, the limits, the filters."""

from collections.abc import Container, Mapping
from dataclasses import replace

from fashionclip.product import Hit
from fashionclip.searching import MAX_CHANGES, Mode, Query
from fashionclip.serve.page.changes import understood
from fashionclip.serve.page.context import IMAGE_DROPPED, PageContext
from fashionclip.serve.page.state import PAGE_SIZE, State
from fashionclip.serve.page.texts import column_label, span

MAX_LIKED = 50  # products to resemble or not, as in the API
MAX_AVOIDED = 20
NOTHING_TO_CHANGE = "A change needs a start: choose a product, a picture or words first."
MODES: Mapping[str, Mode | None] = {"": None, "vectors": "vectors", "words": "words"}
"""``State.mode`` to ``Query.mode``."""


async def without_missing(
    context: PageContext, state: State
) -> tuple[State, Mapping[str, Hit], list[str]]:
    """A search without what no longer exists; its liked products; notices about the rest."""
    columns = context.service.columns
    notices = [
        f"There is no column “{name}” in this catalogue; its filter is ignored."
        for name in state.unknown_columns(columns)
    ]
    notices += [
        f"{column_label(name)}: nothing is from {span(low, high)}; swap the two."
        for name, (low, high) in state.ranges.items()
        if low is not None and high is not None and low > high
    ]
    if state.image and context.uploads.get(state.image) is None:
        notices.append(IMAGE_DROPPED)
        state = replace(state, image=None)
    changes, ignored = understood(state.but)
    notices += ignored
    if changes and not state.is_ranked:
        notices.append(NOTHING_TO_CHANGE)
        changes = ()
    state = replace(state, but=changes)
    liked = {}
    for product_id in (*state.like, *state.unlike):
        hit = await context.service.product(product_id)
        if hit is not None:
            liked[product_id] = hit
        else:
            notices.append(f"Product {product_id} no longer exists; it is ignored.")
    return state.liking_only(liked), liked, notices


def check(context: PageContext, state: State) -> None:
    """Check a search against the API's limits.

    Raises:
        ValueError: it exceeds one.
    """
    context.check_length("your text is", state.text)
    for phrase in state.avoid:
        context.check_length("what you leave out is", phrase)
    for change in state.but:
        context.check_length("your change is", change)
    for what, number, most in (
        ("products to resemble or not", len(state.like) + len(state.unlike), MAX_LIKED),
        ("things to leave out", len(state.avoid), MAX_AVOIDED),
        ("changes", len(state.but), MAX_CHANGES),
    ):
        if number > most:
            message = f"that is {number} {what}; the maximum is {most}, so remove some"
            raise ValueError(message)
    if state.offset > context.settings.offset:
        end = f"the list goes no further than {context.settings.offset:,} products"
        message = f"{end}; a filter or other words reach the rest"
        raise ValueError(message)


def query_of(context: PageContext, state: State, lists: Container[str]) -> Query:
    """The query of a state.

    Args:
        context: has uploaded images, and the service with the columns.
        state: the search.
        lists: the columns that hold lists.
    """
    service = context.service
    has_examples = bool(
        state.image or state.like or state.but
    )  # everything resembles them more or less
    return Query(
        text=state.text,
        image=context.uploads.get(state.image) if state.image else None,
        avoid=state.avoid,
        but=state.but,
        similar_to=state.like,
        unlike=state.unlike,
        where=state.where(service.columns, lists=lists),
        k=PAGE_SIZE,
        offset=state.offset,
        mode=MODES[state.mode] if state.text else None,
        sort=state.sort or None,
        total=not has_examples,
        explain=state.explain,
        group=state.group and service.roles.group in service.columns,
    )
