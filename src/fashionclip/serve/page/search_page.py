"""The search page: results with their filters; on the start page suggestions too."""

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from fashionclip.product import Hit
from fashionclip.searching import Query
from fashionclip.serve.facets import Facet
from fashionclip.serve.http_errors import HttpError, client_message, http_error_of
from fashionclip.serve.page import view
from fashionclip.serve.page.context import EXPECTED_ERRORS, IMAGE_DROPPED, PageContext
from fashionclip.serve.page.rendering import sentence
from fashionclip.serve.page.state import PAGE_SIZE, State

MAX_LIKED = 50  # products to resemble or not, as in the API
MAX_AVOIDED = 20
LIST_ENDS = "The list ends here; a filter or other words reach the rest."


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Answers the requests of the search page."""

    context: PageContext

    async def show(self, request: Request) -> HTMLResponse:
        """Results with their filters; on the start page suggestions too."""
        parsed = State.read(request.query_params.multi_items())
        state, liked, notices = await self._without_missing(parsed)
        error = HttpError(HTTPStatus.OK, "")
        hits: Sequence[Hit] = ()
        facets: Sequence[Facet] = ()
        shown: dict[str, Any] = {"error": "", "tiles": [], "has_more": False, "suggestions": ()}
        total = None
        try:
            self._check(state)
            lists = {
                one.name for one in await self.context.service.facets(None) if one.kind == "list"
            }
            page, facets = await asyncio.gather(
                self.context.service.search(self._query(state, lists)), self._facets(state, lists)
            )
            hits, total = page.hits, page.total
            shown["has_more"] = (
                page.has_more and state.offset + PAGE_SIZE <= self.context.settings.offset
            )
            if page.has_more and not shown["has_more"]:
                notices.append(LIST_ENDS)
            if state.is_start:
                shown["tiles"] = await self.context.suggested()
            if not hits and not state.is_filtered:
                shown["suggestions"] = await self.context.service.suggestions()
        except EXPECTED_ERRORS as exc:
            error = http_error_of(exc)
            shown["error"] = sentence(client_message(exc))
        roles = self.context.service.roles
        groups = view.groups(state, facets, roles)
        shown |= {
            "state": state,
            "query_text": state.text,
            "query_image": state.image or "",
            "without_image_url": replace(state, image=None, offset=0).url,
            "may_retry": error.retry_after_s > 0,
            "heading": view.heading(state),
            "count": view.count_label(state, len(hits), total),
            "cards": [view.card(hit, roles, state) for hit in hits],
            "chips": view.chips(state, self.context.service.columns, liked, roles),
            "groups": groups,
            "has_groups": roles.group in self.context.service.columns,
            "hidden_fields": view.hidden_fields(state, groups),
            "notices": notices,
            "cleared": State(text=state.text, image=state.image, scores=state.scores),
            "scores_toggle": replace(state, scores=not state.scores),
            "previous": state.at(state.offset - PAGE_SIZE),
            "next": state.at(state.offset + PAGE_SIZE),
            "page_number": 1 + -(-state.offset // PAGE_SIZE),
        }
        return self.context.renderer.page(
            "search.html.jinja", error.status, retry_after_s=error.retry_after_s, **shown
        )

    async def _without_missing(self, state: State) -> tuple[State, Mapping[str, Hit], list[str]]:
        """A search without what no longer exists; its liked products; notices about the rest."""
        notices = [
            f"There is no column “{name}” in this catalogue; its filter is ignored."
            for name in state.unknown_columns(self.context.service.columns)
        ]
        notices += [
            f"{view.column_label(name)}: nothing is from {view.span(low, high)}; swap the two."
            for name, (low, high) in state.ranges.items()
            if low is not None and high is not None and low > high
        ]
        if state.image and self.context.uploads.get(state.image) is None:
            notices.append(IMAGE_DROPPED)
            state = replace(state, image=None)
        liked = {}
        for product_id in (*state.like, *state.unlike):
            hit = await self.context.service.product(product_id)
            if hit is not None:
                liked[product_id] = hit
            else:
                notices.append(f"Product {product_id} no longer exists; it is ignored.")
        return state.liking_only(liked), liked, notices

    def _check(self, state: State) -> None:
        """Check a search against the API's limits.

        Raises:
            ValueError: it exceeds one.
        """
        self.context.check_length("your text is", state.text)
        for phrase in state.avoid:
            self.context.check_length("what you leave out is", phrase)
        for what, number, most in (
            ("products to resemble or not", len(state.like) + len(state.unlike), MAX_LIKED),
            ("things to leave out", len(state.avoid), MAX_AVOIDED),
        ):
            if number > most:
                message = f"that is {number} {what}; the maximum is {most}, so remove some"
                raise ValueError(message)
        if state.offset > self.context.settings.offset:
            end = f"the list goes no further than {self.context.settings.offset:,} products"
            message = f"{end}; a filter or other words reach the rest"
            raise ValueError(message)

    def _query(self, state: State, lists: Container[str]) -> Query:
        return Query(
            text=state.text,
            image=self.context.uploads.get(state.image) if state.image else None,
            avoid=state.avoid,
            similar_to=state.like,
            unlike=state.unlike,
            where=state.where(self.context.service.columns, lists=lists),
            k=PAGE_SIZE,
            offset=state.offset,
            mode="hybrid" if state.hybrid and state.text else "vectors",
            group=state.group and self.context.service.roles.group in self.context.service.columns,
        )

    async def _facets(self, state: State, lists: Container[str]) -> Sequence[Facet]:
        """Filters with counts; each column is counted as if it had no filter of its own."""
        columns = self.context.service.columns
        own = [name for name in {**state.chosen, **state.ranges} if name in columns]
        wheres = [state.where(columns, lists=lists, but=name) for name in (None, *own)]
        shared, *others = await asyncio.gather(
            *(self.context.service.facets(where) for where in wheres)
        )
        found = {facet.name: facet for facet in shared}
        for name, facets in zip(own, others, strict=True):
            found |= {facet.name: facet for facet in facets if facet.name == name}
        return tuple(found.values())
