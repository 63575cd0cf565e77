"""The API's searches: parse a request, call the service, answer with a page of hits."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter

from fashionclip.searching import Mode, Query, results_fields
from fashionclip.serve.facets import Facet
from fashionclip.serve.inputs import Inputs, Json, limited
from fashionclip.serve.routing import add_route
from fashionclip.serve.schemas import answers, requests
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings


def add_routes(router: APIRouter, services: Services, settings: Settings) -> None:
    """Add the routes that search.

    Args:
        router: the API's.
        services: search.
        settings: the service's limits.
    """
    searches = _Searches(services, settings)
    one = "/products/{product_id:path}/similar"
    for method, path, answer, name in (
        ("POST", "/search", searches.search, "search"),
        ("GET", "/search", searches.search_by_url, "searchByUrl"),
        ("GET", one, searches.similar, "similarProducts"),
    ):
        missing = answers.error_responses(404)
        add_route(
            router, method, path, answer, name, "search", model=answers.Hits, responses=missing
        )


class _Searches:
    """Answers searches."""

    def __init__(self, services: Services, settings: Settings) -> None:
        self._services, self._settings = services, settings
        self._inputs = Inputs(services, settings)

    @property
    def _service(self) -> SearchService:
        return self._services.current

    async def search(self, body: requests.SearchRequest, request: Request) -> Json:
        """Search by text, an image, or both; without a query, list products."""
        request.state.n = 1
        mode = body.mode
        if body.hybrid is not None:
            mode = "hybrid" if body.hybrid else "vectors"
        return await self._hits(
            body,
            mode=mode,
            text=(body.text or "").strip(),
            image=await self._inputs.image(body.image, body.image_url, is_required=False),
            avoid=body.avoid,
            similar_to=body.similar_to,
            unlike=body.unlike,
            weight=body.weight,
            but=body.but,
            but_strength=body.but_strength,
        )

    async def search_by_url(
        self, asked: Annotated[requests.SearchParameters, QueryParameter()]
    ) -> Json:
        """Search by a text in the URL; without one, list products."""
        text = (asked.q or "").strip()
        return await self._hits(
            asked,
            mode=asked.mode,
            text=text,
            avoid=asked.avoid,
            but=asked.but,
            but_strength=asked.but_strength,
        )

    async def similar(
        self, product_id: str, asked: Annotated[requests.SimilarParameters, QueryParameter()]
    ) -> Json:
        """The products that resemble one most."""
        return await self._hits(
            asked,
            mode=None,
            similar_to=(product_id,),
            but=asked.but,
            but_strength=asked.but_strength,
        )

    async def _hits(
        self,
        asked: requests.ListOptions,
        *,
        mode: Mode | None,
        text: str = "",
        avoid: Sequence[str] = (),
        but: Sequence[str] = (),
        **further: Any,  # noqa: ANN401 - fields of Query
    ) -> Json:
        self._inputs.check_texts([text, *avoid, *but])
        if mode is not None:
            further["mode"] = mode
        query = Query(
            text=text,
            avoid=avoid,
            but=but,
            where=asked.where,
            sort=asked.sort,
            group=asked.group,
            k=limited("k", asked.k, self._settings.k),
            offset=limited("offset", asked.offset, self._settings.offset),
            cursor=asked.cursor,
            total=asked.total,
            explain=asked.explain,
            diversity=asked.diversity,
            fields=asked.fields,
            **further,
        )
        facets = "all" if asked.facets == ["*"] else asked.facets
        results = await self._service.search(query, facets)
        answer = results_fields(results, has_groups=asked.group)
        if results.facets is not None:
            answer["facets"] = {facet.name: _facet(facet) for facet in results.facets}
        return Json(answer)


def _facet(facet: Facet) -> dict[str, Any]:
    values = [{"value": value, "count": count} for value, count in facet.values]
    found: dict[str, Any] = {"kind": facet.kind, "values": values}
    return found | ({"low": facet.low, "high": facet.high} if facet.kind == "number" else {})
