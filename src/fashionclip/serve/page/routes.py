"""The page's routes: search, product, playground, API documentation, sign-in, uploaded images.

Each route parses its URL, calls the service and renders a template; an error is shown in one line.
"""

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from fashionclip.errors import FashionCLIPError, ImageError
from fashionclip.product import Hit
from fashionclip.searching import Query
from fashionclip.serve.facets import Facet
from fashionclip.serve.http_errors import HttpError, client_message, http_error_of
from fashionclip.serve.images import UploadedImages
from fashionclip.serve.middleware.keys import COOKIE, Keys
from fashionclip.serve.page import api_docs, view
from fashionclip.serve.page.rendering import Renderer, sentence
from fashionclip.serve.page.state import PAGE_SIZE, State, image_url
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings

LOGIN = "/login"
N_SIMILAR = 12
MODEL_PX = 400  # width of the product image that the model sees
MAX_LIKED = 50  # products to resemble or not, as in the API
MAX_AVOIDED = 20
EXPECTED_ERRORS = (FashionCLIPError, ValueError)
IMAGE_DROPPED = "Your picture is no longer kept here; drop it again to search by it."
LIST_ENDS = "The list ends here; a filter or other words reach the rest."


def create_router(services: Services, settings: Settings, renderer: Renderer) -> APIRouter:
    """The routes of the page.

    Args:
        services: answer searches.
        settings: the service's limits, and the key file.
        renderer: renders templates.
    """
    page = _Page(services, settings, renderer)
    router = APIRouter(include_in_schema=False)
    for path, answer in (
        ("/", page.search),
        ("/p/{product_id:path}", page.product),
        ("/playground", page.playground),
        ("/docs", page.api_docs),
        (LOGIN, page.login_form),
        ("/pictures/{token}", page.uploaded_image),
        ("/static/{name}", page.static),
    ):
        router.add_api_route(path, answer, methods=["GET", "HEAD"])
    router.add_api_route(LOGIN, page.log_in, methods=["POST"])
    router.add_api_route("/pictures", page.upload_image, methods=["POST"])
    return router


@dataclass(frozen=True, slots=True)
class _Suggestion:
    """A suggested query with its first hit."""

    text: str
    hit: Hit

    @property
    def image(self) -> str:
        return image_url(self.hit.product_id, view.CARD_WIDTHS_PX[0])


class _Page:
    """Answers the page's requests."""

    def __init__(self, services: Services, settings: Settings, renderer: Renderer) -> None:
        self._services, self._settings, self._renderer = services, settings, renderer
        self._uploads = UploadedImages()
        self._suggestions: tuple[str, list[_Suggestion]] = ("", [])

    @property
    def _service(self) -> SearchService:
        return self._services.current

    async def search(self, request: Request) -> HTMLResponse:
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
            lists = {one.name for one in await self._service.facets(None) if one.kind == "list"}
            page, facets = await asyncio.gather(
                self._service.search(self._query(state, lists)), self._facets(state, lists)
            )
            hits, total = page.hits, page.total
            shown["has_more"] = page.has_more and state.offset + PAGE_SIZE <= self._settings.offset
            if page.has_more and not shown["has_more"]:
                notices.append(LIST_ENDS)
            if state.is_start:
                shown["tiles"] = await self._suggested()
            if not hits and not state.is_filtered:
                shown["suggestions"] = await self._service.suggestions()
        except EXPECTED_ERRORS as exc:
            error = http_error_of(exc)
            shown["error"] = sentence(client_message(exc))
        roles = self._service.roles
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
            "chips": view.chips(state, self._service.columns, liked, roles),
            "groups": groups,
            "has_groups": roles.group in self._service.columns,
            "hidden_fields": view.hidden_fields(state, groups),
            "notices": notices,
            "cleared": State(text=state.text, image=state.image, scores=state.scores),
            "scores_toggle": replace(state, scores=not state.scores),
            "previous": state.at(state.offset - PAGE_SIZE),
            "next": state.at(state.offset + PAGE_SIZE),
            "page_number": 1 + -(-state.offset // PAGE_SIZE),
        }
        return self._renderer.page(
            "search.html.jinja", error.status, retry_after_s=error.retry_after_s, **shown
        )

    async def product(self, product_id: str) -> HTMLResponse:
        """One product: image, columns, the model's predictions, similar products."""
        roles = self._service.roles
        try:
            hit = await self._service.product(product_id)
            if hit is None:
                message = f"there is no product {product_id!r}; it may have been deleted"
                return self._renderer.error(HTTPStatus.NOT_FOUND, message)
            similar, facets, image = await asyncio.gather(
                self._service.search(Query(similar_to=(product_id,), k=N_SIMILAR)),
                self._service.facets(None),
                self._service.thumbnail(product_id, MODEL_PX),
            )
            predictions = await self._predictions(hit, image, facets)
        except EXPECTED_ERRORS as exc:
            return self._renderer.exception(exc)
        small, large = (image_url(product_id, width) for width in view.VIEW_WIDTHS_PX)
        widths = view.VIEW_WIDTHS_PX
        return self._renderer.page(
            "product.html.jinja",
            card=view.card(hit, roles),
            image=small,
            image_set=f"{small} {widths[0]}w, {large} {widths[1]}w",
            description=view.description_of(hit, roles),
            facts=view.facts(hit, facets, roles),
            breadcrumbs=view.breadcrumbs(hit, facets, roles),
            predictions=predictions,
            playground_url=f"/playground?{urlencode({'product': product_id})}",
            similar=[view.card(other, roles) for other in similar.hits],
        )

    async def playground(self, request: Request) -> HTMLResponse:
        """An image, labels, and their probabilities."""
        query = request.query_params
        token, product_id = query.get("picture", ""), query.get("product", "")
        typed = query.get("labels", "")
        labels = view.parse_labels(typed)
        error, status = "", HTTPStatus.OK
        offered: list[_Suggestion] = []
        ranked: list[tuple[str, float]] = []
        image = self._uploads.get(token) if token else None
        if token and image is None:
            error, token = IMAGE_DROPPED, ""
        roles = self._service.roles
        try:
            self._check_length("all labels together are", typed)
            offered = await self._suggested()
            if not token and not product_id and offered:
                product_id = offered[0].hit.product_id
            if image is None and product_id:
                image = await self._service.thumbnail(product_id, MODEL_PX)
                if image is None:
                    error = f"Product {product_id!r} has no picture to score; choose another one."
            labels = labels or view.category_labels(await self._service.facets(None), roles)
            if image is not None and labels:
                ranked = await self._ranked(image, labels)
        except EXPECTED_ERRORS as exc:
            error, status = sentence(client_message(exc)), http_error_of(exc).status
        source = f"/pictures/{token}" if token else image_url(product_id, view.VIEW_WIDTHS_PX[0])
        return self._renderer.page(
            "playground.html.jinja",
            status,
            here="playground",
            token=token,
            product="" if token else product_id,
            image_src=source if image is not None else "",
            image_name="Your picture" if token else f"Product {product_id}",
            labels=labels,
            ranked=ranked,
            error=error,
            offered=[
                (view.card(one.hit, roles), _playground_url(one.hit.product_id, typed))
                for one in offered
            ],
        )

    async def upload_image(self, request: Request) -> JSONResponse:
        """Keep the image in the request's body and answer with its token.

        Raises:
            ImageError: it is not an image.
        """
        data = await request.body()
        token = await asyncio.to_thread(self._uploads.put, data, max_pixels=self._settings.pixels)
        return JSONResponse({"picture": token}, HTTPStatus.CREATED)

    async def uploaded_image(self, token: str) -> Response:
        """An uploaded image."""
        image = self._uploads.get(token)
        if image is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(image, media_type="image/jpeg", headers=headers)

    async def static(self, request: Request, name: str) -> Response:
        """Style sheet, script and icon."""
        return self._renderer.static(name, request.query_params.get("v"))

    async def api_docs(self, request: Request) -> HTMLResponse:
        """The API documentation, made from the app's OpenAPI description."""
        listed = await self._service.search(Query(k=1))
        found = api_docs.topics(
            request.app.openapi(),
            address=str(request.base_url).rstrip("/"),
            product_id=listed.hits[0].product_id if listed.hits else "A-17",
            has_keys=self._settings.key_file is not None,
        )
        return self._renderer.page(
            "api_docs.html.jinja",
            here="api_docs",
            topics=found,
            columns=list(self._service.columns),
            allow_image_urls=self._settings.allow_image_urls,
        )

    async def login_form(self, request: Request) -> Response:
        """The form for a key, if this service has keys."""
        after = _own_path(request.query_params.get("next", ""))
        if self._settings.key_file is None:
            return RedirectResponse(after, HTTPStatus.SEE_OTHER)
        return self._renderer.page("login.html.jinja", here="login", error="", after=after)

    async def log_in(self, request: Request) -> Response:
        """Store a valid key in a cookie that scripts cannot read, or delete the cookie."""
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        after = _own_path(form.get("next", ""))
        answer = RedirectResponse(after, HTTPStatus.SEE_OTHER)
        if self._settings.key_file is None:
            return answer
        if "out" in form:
            answer = RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER)
            answer.delete_cookie(COOKIE)
            return answer
        secret = form.get("key", "").strip()
        try:
            keys = await asyncio.to_thread(Keys.read, self._settings.key_file)
        except EXPECTED_ERRORS as exc:
            return self._renderer.exception(exc)
        if "read" not in keys.scopes(secret):
            error = "This key is not valid here; check that it is complete."
            return self._renderer.page(
                "login.html.jinja", HTTPStatus.FORBIDDEN, here="login", error=error, after=after
            )
        # lax: a link from another site works, a request that another site sends has no cookie
        is_secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="lax", secure=is_secure)
        return answer

    async def _without_missing(self, state: State) -> tuple[State, Mapping[str, Hit], list[str]]:
        """A search without what no longer exists; its liked products; notices about the rest."""
        notices = [
            f"There is no column “{name}” in this catalogue; its filter is ignored."
            for name in state.unknown_columns(self._service.columns)
        ]
        notices += [
            f"{view.column_label(name)}: nothing is from {view.span(low, high)}; swap the two."
            for name, (low, high) in state.ranges.items()
            if low is not None and high is not None and low > high
        ]
        if state.image and self._uploads.get(state.image) is None:
            notices.append(IMAGE_DROPPED)
            state = replace(state, image=None)
        liked = {}
        for product_id in (*state.like, *state.unlike):
            hit = await self._service.product(product_id)
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
        self._check_length("your text is", state.text)
        for phrase in state.avoid:
            self._check_length("what you leave out is", phrase)
        for what, number, most in (
            ("products to resemble or not", len(state.like) + len(state.unlike), MAX_LIKED),
            ("things to leave out", len(state.avoid), MAX_AVOIDED),
        ):
            if number > most:
                message = f"that is {number} {what}; the maximum is {most}, so remove some"
                raise ValueError(message)
        if state.offset > self._settings.offset:
            end = f"the list goes no further than {self._settings.offset:,} products"
            message = f"{end}; a filter or other words reach the rest"
            raise ValueError(message)

    def _check_length(self, what: str, text: str) -> None:
        """Check the length of a text.

        Raises:
            ValueError: it is too long.
        """
        most = self._settings.text_chars
        if len(text) > most:
            message = (
                f"{what} {len(text):,} characters long; the maximum is {most:,}, so shorten it"
            )
            raise ValueError(message)

    def _query(self, state: State, lists: Container[str]) -> Query:
        return Query(
            text=state.text,
            image=self._uploads.get(state.image) if state.image else None,
            avoid=state.avoid,
            similar_to=state.like,
            unlike=state.unlike,
            where=state.where(self._service.columns, lists=lists),
            k=PAGE_SIZE,
            offset=state.offset,
            mode="hybrid" if state.hybrid and state.text else "vectors",
            group=state.group and self._service.roles.group in self._service.columns,
        )

    async def _facets(self, state: State, lists: Container[str]) -> Sequence[Facet]:
        """Filters with counts; each column is counted as if it had no filter of its own."""
        columns = self._service.columns
        own = [name for name in {**state.chosen, **state.ranges} if name in columns]
        wheres = [state.where(columns, lists=lists, but=name) for name in (None, *own)]
        shared, *others = await asyncio.gather(*(self._service.facets(where) for where in wheres))
        found = {facet.name: facet for facet in shared}
        for name, facets in zip(own, others, strict=True):
            found |= {facet.name: facet for facet in facets if facet.name == name}
        return tuple(found.values())

    async def _suggested(self) -> list[_Suggestion]:
        """Suggested queries, each with another first hit; computed again when products change."""
        version, suggestions = self._suggestions
        if version == self._service.version and suggestions:
            return suggestions
        version = self._service.version
        texts = await self._service.suggestions()
        pages = await asyncio.gather(
            *(self._service.search(Query(text=text, k=len(texts))) for text in texts)
        )
        taken: set[str] = set()
        suggestions = []
        for text, page in zip(texts, pages, strict=True):
            hit = next((hit for hit in page.hits if hit.product_id not in taken), None)
            if hit is not None:
                taken.add(hit.product_id)
                suggestions.append(_Suggestion(text, hit))
        self._suggestions = (version, suggestions)
        return suggestions

    async def _predictions(
        self, hit: Hit, image: bytes | None, facets: Sequence[Facet]
    ) -> list[view.Prediction]:
        """What the model predicts for the columns that an image can show."""
        if image is None:
            return []
        questions = view.questions(hit, facets, self._service.roles)
        try:
            outcomes = await asyncio.gather(
                *(self._service.classify(image, one.labels, one.template) for one in questions)
            )
        except ImageError:  # the page shows an unreadable image as missing
            return []
        pairs = zip(questions, outcomes, strict=True)
        return [view.prediction(question, outcome) for question, outcome in pairs]

    async def _ranked(self, image: bytes, labels: Sequence[str]) -> list[tuple[str, float]]:
        if len(labels) > self._settings.batch:
            message = f"that is {len(labels)} labels; the maximum is {self._settings.batch}"
            raise ValueError(message)
        outcome = await self._service.classify(image, labels, None)
        return sorted(outcome, key=lambda pair: -pair[1])


def _playground_url(product_id: str, labels: str) -> str:
    query = {"product": product_id, **({"labels": labels} if labels else {})}
    return f"/playground?{urlencode(query)}"


def _own_path(path: str) -> str:
    """Where to go after signing in: a path of this service, never another site's URL."""
    parts = urlsplit(path.replace("\\", "/"))
    is_own = path.startswith("/") and not (parts.scheme or parts.netloc) and path[:2] != "//"
    return path if is_own and path.isprintable() else "/"
