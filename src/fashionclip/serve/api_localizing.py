"""The API's routes into images: a photograph's garments with hits, words on a product's picture."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from fashionclip.localization import facts_of
from fashionclip.searching import Query, garment_fields
from fashionclip.serve.inputs import Inputs, Json, limited, not_found
from fashionclip.serve.localizing import MAP_WIDTH_PX
from fashionclip.serve.routing import Responses, add_route
from fashionclip.serve.schemas import answers, requests
from fashionclip.serve.schemas.localizing import GarmentsOut, LocalizedOut, Word, Words
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings

MAP_MAX_AGE_S = 300


def add_routes(router: APIRouter, services: Services, settings: Settings) -> None:
    """Add the routes.

    Args:
        router: the API's.
        services: answer the requests.
        settings: the service's limits.
    """
    api = _Localizing(services, settings)
    missing = answers.error_responses(404)
    png = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
    image: Responses = {200: {"content": png, "description": "A PNG."}, **missing}
    add_route(
        router, "POST", "/garments", api.garments, "findGarments", "search", model=GarmentsOut
    )
    add_route(
        router,
        "GET",
        "/localize/{product_id:path}",
        api.localize,
        "localizeWords",
        "products",
        model=LocalizedOut,
        responses=missing,
        has_old_path=False,
    )
    add_route(
        router,
        "GET",
        "/maps/{product_id:path}",
        api.map,
        "getMap",
        "products",
        responses=image,
        has_old_path=False,
    )


class _Localizing:
    """Answers requests for the inside of images."""

    def __init__(self, services: Services, settings: Settings) -> None:
        self._services, self._settings = services, settings
        self._inputs = Inputs(services, settings)

    @property
    def _service(self) -> SearchService:
        return self._services.current

    async def garments(self, body: requests.GarmentsRequest, request: Request) -> Json:
        """Find the garments of a photograph, and for each the products that look like it.

        Where nothing stands out, garments is empty; search by the whole picture then.
        """
        request.state.n = 1
        self._inputs.check_texts(body.garments or ())
        k = limited("k", body.k, self._settings.k)
        query = Query(where=body.where, k=k, group=body.group, fields=body.fields)
        image = await self._inputs.image(body.image, body.image_url)
        localizer = self._service.localizer
        photo = await localizer.garments(image or b"", body.garments)
        found = await localizer.search(photo.garments, query)
        garments = [garment_fields(one, has_groups=body.group) for one in found]
        return Json({"width": photo.width, "height": photo.height, "garments": garments})

    async def localize(self, product_id: str, word: Words) -> Json:
        """Say where words are on a product's picture, and which are not in it."""
        self._inputs.check_texts(word)
        picture = await self._picture(product_id)
        found = await self._service.localizer.words(picture, word)
        return Json({"id": product_id, **facts_of(found)})

    async def map(self, product_id: str, word: Word) -> Response:
        """Show where a word is on a product's picture: a map over it, as a PNG."""
        self._inputs.check_texts([word])
        picture = await self._picture(product_id)
        drawn = await self._service.localizer.overlay(picture, word)
        headers = {"Cache-Control": f"private, max-age={MAP_MAX_AGE_S}"}
        return Response(drawn, media_type="image/png", headers=headers)

    async def _picture(self, product_id: str) -> bytes:
        """A product's picture, in the size that words are looked for on.

        Raises:
            ProductNotFoundError: there is none.
        """
        found = await self._service.thumbnail(product_id, MAP_WIDTH_PX)
        if found is None:
            not_found(f"product {product_id!r} has no image here")
        return found
