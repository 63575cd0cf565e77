"""The search page: results with their filters; on the start page suggestions too."""

import asyncio
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import chain
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from fashionclip.product import Hit
from fashionclip.searching import Results
from fashionclip.serve.facets import Facet
from fashionclip.serve.http_errors import HttpError, client_message, http_error_of
from fashionclip.serve.page import filters, sorting, view
from fashionclip.serve.page.changes import changed_line, sliders
from fashionclip.serve.page.context import EXPECTED_ERRORS, PageContext
from fashionclip.serve.page.csv_export import csv_of
from fashionclip.serve.page.headings import count_label, csv_label, heading
from fashionclip.serve.page.rendering import csv_file, sentence
from fashionclip.serve.page.state import PAGE_SIZE, State
from fashionclip.serve.page.state_query import check, query_of, without_missing

MAX_CSV_ROWS = 10_000
MAX_RANKED_CSV_ROWS = 1_000  # a longer ranking is not worth its time
CSV_PAGE = 500
LIST_ENDS = "The list ends here; a filter or other words reach the rest."


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Answers the requests of the search page."""

    context: PageContext

    async def show(self, request: Request) -> HTMLResponse:
        """Results with their filters; on the start page suggestions too."""
        service, settings = self.context.service, self.context.settings
        parsed = State.read(request.query_params.multi_items())
        state, liked, notices = await without_missing(self.context, parsed)
        error = HttpError(HTTPStatus.OK, "")
        page = Results((), n_relevant=0)
        all_facets: Sequence[Facet] = ()
        counted: Sequence[Facet] | None = None
        dates: Sequence[str] = ()
        shown: dict[str, Any] = {"error": "", "tiles": [], "suggestions": ()}
        try:
            all_facets, dates = await service.facets(None), await self.context.date_columns()
            check(self.context, state)
            page, counted = await self._found(state, all_facets)
            if state.is_start:
                shown["tiles"] = await self.context.suggested()
            if not page.n_relevant and not state.is_filtered:
                shown["suggestions"] = await service.suggestions()
        except EXPECTED_ERRORS as exc:
            error = http_error_of(exc)
            shown["error"] = sentence(client_message(exc))
        if page.hint:
            notices.append(sentence(page.hint))
        has_more = page.has_more and state.offset + PAGE_SIZE <= settings.offset
        if page.has_more and not has_more:
            notices.append(LIST_ENDS)
        roles = service.roles
        groups = filters.groups(
            state, all_facets, all_facets if counted is None else counted, roles
        )
        cards = [view.card(hit, roles, state) for hit in page.hits]
        shown |= {
            "state": state,
            "query_text": state.text,
            "query_image": state.image or "",
            "without_image_url": replace(state, image=None, offset=0).url,
            "may_retry": error.retry_after_s > 0,
            "heading": heading(state),
            "whole_heading": heading(state, is_whole=True),
            "count": count_label(state, page),
            "cards": cards[: page.n_relevant],
            "weaker": cards[page.n_relevant :],
            "has_sliders": bool(state.image or state.like or state.but),
            "sliders": sliders(state.but),
            "changed": changed_line(page),
            "chips": filters.chips(state, service.columns, liked, roles),
            "groups": groups,
            "counts_note": "" if page.is_total_exact else f"Counts of the {page.total:,} best.",
            "has_groups": roles.group in service.columns,
            "hidden_fields": filters.hidden_fields(state, groups),
            "orders": sorting.orders(state, service.columns, roles, all_facets, dates),
            "notices": notices,
            "hint": sentence(page.hint) if page.hint else "",
            "csv": csv_label(page, most=_max_rows(state)),
            "explain_url": replace(state, explain=not state.explain).url,
            "has_more": has_more,
            "page_size": PAGE_SIZE,
            "page_number": 1 + -(-state.offset // PAGE_SIZE),
        }
        return self.context.renderer.page(
            "search.html.jinja", error.status, retry_after_s=error.retry_after_s, **shown
        )

    async def csv(self, request: Request) -> Response:
        """The list that a page shows, from its beginning, as CSV: the products that fit."""
        service = self.context.service
        parsed = State.read(request.query_params.multi_items())
        state, _, _ = await without_missing(self.context, replace(parsed, offset=0))
        most = _max_rows(state)
        try:
            check(self.context, state)
            lists = {facet.name for facet in await service.facets(None) if facet.kind == "list"}
            hits, is_cut = await self._fitting(state, lists, most)
        except EXPECTED_ERRORS as exc:
            return self.context.renderer.exception(exc)
        data = await asyncio.to_thread(csv_of, hits, list(service.columns), service.roles)
        return csv_file(data, f"products-first-{most}.csv" if is_cut else "products.csv")

    async def _fitting(
        self, state: State, lists: Container[str], most: int
    ) -> tuple[list[Hit], bool]:
        """The products that fit, up to so many, and whether there are more."""
        query = replace(query_of(self.context, state, lists), k=CSV_PAGE, total=False)
        hits: list[Hit] = []
        while True:
            page = await self.context.service.search(query)
            hits += page.hits[: page.n_relevant]
            goes_on = page.has_more and page.n_relevant == len(page.hits)
            if not goes_on or len(hits) >= most:
                return hits[:most], goes_on or len(hits) > most
            query = replace(query, cursor=page.cursor)

    async def _found(
        self, state: State, all_facets: Sequence[Facet]
    ) -> tuple[Results, Sequence[Facet]]:
        """A page of hits, and the facets of all that fit.

        A column with a filter is counted as if it had none of its own, so that its other values
        can be added.
        """
        service, columns = self.context.service, self.context.service.columns
        lists = {facet.name for facet in all_facets if facet.kind == "list"}
        filtered = {*state.chosen, *state.ranges}
        own = [facet.name for facet in all_facets if facet.name in filtered]
        query = query_of(self.context, state, lists)
        # everything resembles a picture more or less: there only filters narrow the list
        is_counted = query.total

        async def count(name: str) -> Sequence[Facet]:
            where = state.where(columns, lists=lists, but=name)
            if is_counted:
                asked = replace(query, where=where, k=1, offset=0)
                return (await service.search(asked, [name])).facets or ()
            return [facet for facet in await service.facets(where) if facet.name == name]

        page, others = await asyncio.gather(
            service.search(query, "all" if is_counted else None),
            asyncio.gather(*(count(name) for name in own)),
        )
        facets = (
            page.facets if is_counted else await service.facets(state.where(columns, lists=lists))
        )
        found = {facet.name: facet for facet in (*(facets or ()), *chain.from_iterable(others))}
        return page, tuple(found.values())


def _max_rows(state: State) -> int:
    return MAX_RANKED_CSV_ROWS if state.is_ranked else MAX_CSV_ROWS
