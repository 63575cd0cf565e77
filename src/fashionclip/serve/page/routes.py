"""The page's addresses: search, product, playground, for programs, sign-in, pictures.

Each reads its address, asks the shop, and fills a template; what goes wrong is one line in words.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from fashionclip.errors import FashionCLIPError, ImageError
from fashionclip.product import Hit
from fashionclip.serve.callers import COOKIE
from fashionclip.serve.facets import Facet
from fashionclip.serve.faults import Fault, fault_of, one_line
from fashionclip.serve.keys import Keys
from fashionclip.serve.page import programs, view
from fashionclip.serve.page.drawing import Drawing, sentence
from fashionclip.serve.page.shelf import Shelf
from fashionclip.serve.page.state import PAGE_SIZE, State, picture_url
from fashionclip.serve.page.words import column_label, span
from fashionclip.serve.settings import Settings
from fashionclip.serve.shop import Query, Shop

LOGIN = "/login"
NEIGHBOURS = 12
SEEN_PX = 400  # of a product's picture when the model looks at it again
MOST_LIKED = 50  # products to look like or not, as in the API
MOST_AVOIDED = 20
MISTAKES = (FashionCLIPError, ValueError)
GONE_PICTURE = "Your picture is no longer kept here; drop it again to search by it."
LIST_ENDS = "The list ends here; a filter or other words reach the rest."


def create_router(shop: Shop, settings: Settings, drawing: Drawing) -> APIRouter:
    """The routes of the page.

    Args:
        shop: what is searched.
        settings: the service's limits, and where its keys are.
        drawing: the templates.
    """
    page = _Page(shop, settings, drawing)
    router = APIRouter(include_in_schema=False)
    for path, answer in (
        ("/", page.search),
        ("/p/{product_id:path}", page.product),
        ("/playground", page.playground),
        ("/docs", page.programs),
        (LOGIN, page.sign_in),
        ("/pictures/{token}", page.picture),
        ("/static/{name}", page.static),
    ):
        router.add_api_route(path, answer, methods=["GET", "HEAD"])
    router.add_api_route(LOGIN, page.signed_in, methods=["POST"])
    router.add_api_route("/pictures", page.keep_picture, methods=["POST"])
    return router


@dataclass(frozen=True, slots=True)
class _Tile:
    """A suggestion with the picture of what it finds first."""

    text: str
    hit: Hit

    @property
    def picture(self) -> str:
        return picture_url(self.hit.product_id, view.CARD_WIDTHS_PX[0])


class _Page:
    """Answers the page's requests."""

    def __init__(self, shop: Shop, settings: Settings, drawing: Drawing) -> None:
        self._shop, self._settings, self._drawing = shop, settings, drawing
        self._shelf = Shelf()
        self._tiles: tuple[str, list[_Tile]] = ("", [])

    async def search(self, request: Request) -> HTMLResponse:
        """The results, their filters, and on the start page what to begin with."""
        state, liked, notices = await self._present(State.read(request.query_params.multi_items()))
        fault = Fault(HTTPStatus.OK, "")
        hits: Sequence[Hit] = ()
        facets: Sequence[Facet] = ()
        shown: dict[str, Any] = {"error": "", "tiles": [], "has_more": False, "suggestions": ()}
        total = None
        try:
            self._check(state)
            page, facets = await asyncio.gather(
                self._shop.search(self._query(state)), self._facets(state)
            )
            hits, total = page.hits, page.total
            shown["has_more"] = page.has_more and state.offset + PAGE_SIZE <= self._settings.offset
            if page.has_more and not shown["has_more"]:
                notices.append(LIST_ENDS)
            if state.is_start:
                shown["tiles"] = await self._starts()
            if not hits and not state.is_filtered:
                shown["suggestions"] = await self._shop.suggestions()
        except MISTAKES as exc:
            fault = fault_of(exc)
            shown["error"] = sentence(one_line(exc))
        groups = view.groups(state, facets)
        shown |= {
            "state": state,
            "asked_text": state.text,
            "asked_picture": state.picture or "",
            "without_picture_url": replace(state, picture=None, offset=0).url,
            "may_retry": fault.retry_after_s > 0,
            "heading": view.heading(state),
            "count": view.said_count(state, len(hits), total),
            "cards": [view.card(hit, state) for hit in hits],
            "chips": view.chips(state, self._shop.columns, liked),
            "groups": groups,
            "kept": view.kept(state, groups),
            "notices": notices,
            "cleared": State(text=state.text, picture=state.picture, scores=state.scores),
            "scores_toggle": replace(state, scores=not state.scores),
            "previous": state.at(state.offset - PAGE_SIZE),
            "next": state.at(state.offset + PAGE_SIZE),
            "page_number": 1 + -(-state.offset // PAGE_SIZE),
        }
        return self._drawing.page(
            "search.html.jinja", fault.status, wait_s=fault.retry_after_s, **shown
        )

    async def product(self, product_id: str) -> HTMLResponse:
        """One product: its picture, what the catalogue and the model say of it, what is alike."""
        try:
            hit = await self._shop.product(product_id)
            if hit is None:
                message = f"no product has the number {product_id!r}; it may have been taken out"
                return self._drawing.fault(HTTPStatus.NOT_FOUND, message)
            neighbours, facets, picture = await asyncio.gather(
                self._shop.similar(product_id, NEIGHBOURS),
                self._shop.facets(None),
                self._shop.thumbnail(product_id, SEEN_PX),
            )
            sights = await self._sights(hit, picture, facets)
        except MISTAKES as exc:
            return self._drawing.mistake(exc)
        small, large = (picture_url(product_id, width) for width in view.VIEW_WIDTHS_PX)
        widths = view.VIEW_WIDTHS_PX
        return self._drawing.page(
            "product.html.jinja",
            card=view.card(hit),
            picture=small,
            picture_set=f"{small} {widths[0]}w, {large} {widths[1]}w",
            description=view.description_of(hit),
            facts=view.facts(hit, facets),
            trail=view.trail(hit, facets),
            sights=sights,
            playground_url=f"/playground?{urlencode({'product': product_id})}",
            neighbours=[view.card(alike) for alike in neighbours],
        )

    async def playground(self, request: Request) -> HTMLResponse:
        """A picture, labels, and how well they fit."""
        asked = request.query_params
        token, product_id = asked.get("picture", ""), asked.get("product", "")
        typed = asked.get("labels", "")
        labels = view.labels_in(typed)
        error, status = "", HTTPStatus.OK
        offered: list[_Tile] = []
        ranked: list[tuple[str, float]] = []
        picture = self._shelf.get(token) if token else None
        if token and picture is None:
            error, token = GONE_PICTURE, ""
        try:
            self._check_length("all labels together are", typed)
            offered = await self._starts()
            if not token and not product_id and offered:
                product_id = offered[0].hit.product_id
            if picture is None and product_id:
                picture = await self._shop.thumbnail(product_id, SEEN_PX)
                if picture is None:
                    error = f"There is no picture of {product_id!r} to score; take another one."
            labels = labels or view.category_labels(await self._shop.facets(None))
            if picture is not None and labels:
                ranked = await self._ranked(picture, labels)
        except MISTAKES as exc:
            error, status = sentence(one_line(exc)), fault_of(exc).status
        widest = view.VIEW_WIDTHS_PX[0]
        source = f"/pictures/{token}" if token else picture_url(product_id, widest)
        return self._drawing.page(
            "playground.html.jinja",
            status,
            here="playground",
            scored=token,
            product="" if token else product_id,
            picture_src=source if picture is not None else "",
            picture_name="Your picture" if token else f"Product {product_id}",
            labels=labels,
            ranked=ranked,
            error=error,
            offered=[
                (view.card(tile.hit), _playground_url(tile.hit.product_id, typed))
                for tile in offered
            ],
        )

    async def keep_picture(self, request: Request) -> JSONResponse:
        """Keep a picture that came as the request's body, and say by what token.

        Raises:
            ImageError: it is no picture; the service tells the client.
        """
        data = await request.body()
        token = await asyncio.to_thread(self._shelf.put, data, max_pixels=self._settings.pixels)
        return JSONResponse({"picture": token}, HTTPStatus.CREATED)

    async def picture(self, token: str) -> Response:
        """A kept picture."""
        picture = self._shelf.get(token)
        if picture is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(picture, media_type="image/jpeg", headers=headers)

    async def static(self, request: Request, name: str) -> Response:
        """Style, script and icon."""
        return self._drawing.static(name, request.query_params.get("v"))

    async def programs(self, request: Request) -> HTMLResponse:
        """What programs can ask, out of the app's own description."""
        listed = await self._shop.search(Query(k=1))
        found = programs.topics(
            request.app.openapi(),
            address=str(request.base_url).rstrip("/"),
            product_id=listed.hits[0].product_id if listed.hits else "A-17",
            has_keys=self._settings.key_file is not None,
        )
        return self._drawing.page(
            "programs.html.jinja",
            here="programs",
            topics=found,
            columns=list(self._shop.columns),
            allow_image_urls=self._settings.allow_image_urls,
        )

    async def sign_in(self, request: Request) -> Response:
        """The form that takes a key, if this service has keys."""
        after = _own_path(request.query_params.get("next", ""))
        if self._settings.key_file is None:
            return RedirectResponse(after, HTTPStatus.SEE_OTHER)
        return self._drawing.page("login.html.jinja", here="login", error="", after=after)

    async def signed_in(self, request: Request) -> Response:
        """Keep a key that opens the service in a cookie that no script can read, or forget it."""
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
        except MISTAKES as exc:
            return self._drawing.mistake(exc)
        if "read" not in keys.scopes(secret):
            error = "This key is not known here; look whether it is whole."
            return self._drawing.page(
                "login.html.jinja", HTTPStatus.FORBIDDEN, here="login", error=error, after=after
            )
        # lax, so that a link in a message opens; what another site sends by itself has no cookie
        is_secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="lax", secure=is_secure)
        return answer

    async def _present(self, state: State) -> tuple[State, Mapping[str, Hit], list[str]]:
        """A search less what is no longer here, its liked and unliked products, and notices."""
        notices = [
            f"There is no column “{name}” in this catalogue; that filter is left out."
            for name in state.unknown_columns(self._shop.columns)
        ]
        notices += [
            f"{column_label(name)}: nothing is from {span(low, high)}; swap the two."
            for name, (low, high) in state.ranges.items()
            if low is not None and high is not None and low > high
        ]
        if state.picture and self._shelf.get(state.picture) is None:
            notices.append(GONE_PICTURE)
            state = replace(state, picture=None)
        liked = {}
        for product_id in (*state.like, *state.unlike):
            hit = await self._shop.product(product_id)
            if hit is not None:
                liked[product_id] = hit
            else:
                notices.append(f"Product {product_id} is no longer here; it is left out.")
        return state.liking_only(liked), liked, notices

    def _check(self, state: State) -> None:
        """Hold a search against the limits, which the API has too.

        Raises:
            ValueError: it is too long.
        """
        self._check_length("your text is", state.text)
        for phrase in state.avoid:
            self._check_length("what you leave out is", phrase)
        for what, number, most in (
            ("products to look like or not", len(state.like) + len(state.unlike), MOST_LIKED),
            ("things to leave out", len(state.avoid), MOST_AVOIDED),
        ):
            if number > most:
                message = f"that is {number} {what}; {most} are the most, so take some away"
                raise ValueError(message)
        if state.offset > self._settings.offset:
            end = f"the list goes no further than {self._settings.offset:,} products"
            message = f"{end}; a filter or other words reach the rest"
            raise ValueError(message)

    def _check_length(self, what: str, text: str) -> None:
        """Hold words against the limit.

        Raises:
            ValueError: there are too many.
        """
        if len(text) > self._settings.text_chars:
            most = self._settings.text_chars
            message = f"{what} {len(text):,} characters long; {most:,} are the most, so shorten it"
            raise ValueError(message)

    def _query(self, state: State, *, k: int = PAGE_SIZE) -> Query:
        return Query(
            text=state.text,
            image=self._shelf.get(state.picture) if state.picture else None,
            avoid=state.avoid,
            like=state.like,
            unlike=state.unlike,
            where=state.where(self._shop.columns),
            k=k,
            offset=state.offset,
            hybrid=state.hybrid and bool(state.text),
        )

    async def _facets(self, state: State) -> Sequence[Facet]:
        """Filters with counts; each column is counted as if it had no filter of its own."""
        columns = self._shop.columns
        own = [name for name in {**state.chosen, **state.ranges} if name in columns]
        wheres = [state.where(columns), *(state.where(columns, but=name) for name in own)]
        shared, *others = await asyncio.gather(*(self._shop.facets(where) for where in wheres))
        found = {facet.name: facet for facet in shared}
        for name, facets in zip(own, others, strict=True):
            found |= {facet.name: facet for facet in facets if facet.name == name}
        return tuple(found.values())

    async def _starts(self) -> list[_Tile]:
        """Suggestions with what they find first, each another product; made anew with the index."""
        version, tiles = self._tiles
        if version == self._shop.version and tiles:
            return tiles
        version = self._shop.version
        texts = await self._shop.suggestions()
        pages = await asyncio.gather(
            *(self._shop.search(Query(text=text, k=len(texts))) for text in texts)
        )
        taken: set[str] = set()
        tiles = []
        for text, page in zip(texts, pages, strict=True):
            hit = next((hit for hit in page.hits if hit.product_id not in taken), None)
            if hit is not None:
                taken.add(hit.product_id)
                tiles.append(_Tile(text, hit))
        self._tiles = (version, tiles)
        return tiles

    async def _sights(
        self, hit: Hit, picture: bytes | None, facets: Sequence[Facet]
    ) -> list[view.Sight]:
        """What the model sees of the things that a picture can show."""
        if picture is None:
            return []
        looks = view.looks(hit, facets)
        try:
            outcomes = await asyncio.gather(
                *(self._shop.classify(picture, look.labels, look.templates) for look in looks)
            )
        except ImageError:  # a picture that cannot be read any more has been drawn as missing
            return []
        return [view.sight(look, outcome) for look, outcome in zip(looks, outcomes, strict=True)]

    async def _ranked(self, picture: bytes, labels: Sequence[str]) -> list[tuple[str, float]]:
        if len(labels) > self._settings.batch:
            message = f"that is {len(labels)} labels; {self._settings.batch} are the most at once"
            raise ValueError(message)
        outcome = await self._shop.classify(picture, labels, None)
        return sorted(outcome, key=lambda pair: -pair[1])


def _playground_url(product_id: str, labels: str) -> str:
    asked = {"product": product_id, **({"labels": labels} if labels else {})}
    return f"/playground?{urlencode(asked)}"


def _own_path(path: str) -> str:
    """Where to go after signing in: a path of this service, never another site's address."""
    parts = urlsplit(path.replace("\\", "/"))
    is_own = path.startswith("/") and not (parts.scheme or parts.netloc) and path[:2] != "//"
    return path if is_own and path.isprintable() else "/"
