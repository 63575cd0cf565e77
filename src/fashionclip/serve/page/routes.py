"""The page's routes; uploads, static files and the API documentation are answered here."""

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from fashionclip.searching import Query
from fashionclip.serve.page import api_docs
from fashionclip.serve.page.context import PageContext
from fashionclip.serve.page.garments_page import GarmentsPage
from fashionclip.serve.page.playground import PlaygroundPage
from fashionclip.serve.page.product_page import ProductPage
from fashionclip.serve.page.rendering import Renderer
from fashionclip.serve.page.search_page import SearchPage
from fashionclip.serve.page.shortlist import ShortlistPage
from fashionclip.serve.page.sign_in import LOGIN, SignInPage
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings


def create_router(services: Services, settings: Settings, renderer: Renderer) -> APIRouter:
    """The routes of the page.

    Args:
        services: answer searches.
        settings: the service's limits, and the key file.
        renderer: renders templates.
    """
    context = PageContext(services, settings, renderer)
    page, sign_in = _Page(context), SignInPage(context)
    search, shortlist = SearchPage(context), ShortlistPage(context)
    product = ProductPage(context)
    router = APIRouter(include_in_schema=False)
    for path, answer in (
        ("/", search.show),
        ("/products.csv", search.csv),
        ("/shortlist", shortlist.show),
        ("/shortlist.csv", shortlist.csv),
        ("/p/{product_id:path}", product.show),
        ("/views/{number:int}/{product_id:path}", product.picture),
        ("/garments", GarmentsPage(context).show),
        ("/playground", PlaygroundPage(context).show),
        ("/docs", page.api_docs),
        (LOGIN, sign_in.form),
        ("/pictures/{token}", page.uploaded_image),
        ("/static/{name}", page.static),
    ):
        router.add_api_route(path, answer, methods=["GET", "HEAD"])
    router.add_api_route(LOGIN, sign_in.log_in, methods=["POST"])
    router.add_api_route("/pictures", page.upload_image, methods=["POST"])
    return router


class _Page:
    """Answers requests for uploads, static files and the API documentation."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    async def upload_image(self, request: Request) -> JSONResponse:
        """Keep the image in the request's body and answer with its token.

        Raises:
            ImageError: it is not an image.
        """
        data = await request.body()
        token = await asyncio.to_thread(
            self._context.uploads.put, data, max_pixels=self._context.settings.pixels
        )
        return JSONResponse({"picture": token}, HTTPStatus.CREATED)

    async def uploaded_image(self, token: str) -> Response:
        """An uploaded image."""
        image = self._context.uploads.get(token)
        if image is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(image, media_type="image/jpeg", headers=headers)

    async def static(self, request: Request, name: str) -> Response:
        """Style sheet, script and icon."""
        return self._context.renderer.static(name, request.query_params.get("v"))

    async def api_docs(self, request: Request) -> HTMLResponse:
        """The API documentation, made from the app's OpenAPI description."""
        listed = await self._context.service.search(Query(k=1))
        values = {
            "product_id": listed.hits[0].product_id if listed.hits else "A-17",
            "model": self._context.service.meta.model,
            "id": "A-17",  # of no product here, since the command deletes it
            "word": "sleeve",
            "q": next(iter(await self._context.service.suggestions()), "dress"),
        }
        found = api_docs.topics(
            request.app.openapi(),
            address=str(request.base_url).rstrip("/"),
            values=values,
            has_keys=self._context.settings.key_file is not None,
        )
        return self._context.renderer.page(
            "api_docs.html.jinja",
            here="api_docs",
            topics=found,
            columns=list(self._context.service.columns),
            allow_image_urls=self._context.settings.allow_image_urls,
        )
