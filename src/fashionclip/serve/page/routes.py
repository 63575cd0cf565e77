"""The page's addresses: search, product, playground, sign-in, pictures, and what they are drawn by.

Each reads its address, asks the shop, and fills a template; what goes wrong is one line in words.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from fashionclip.errors import FashionCLIPError, ImageError
from fashionclip.product import Hit
from fashionclip.serve.callers import COOKIE
from fashionclip.serve.facets import Facet
from fashionclip.serve.faults import fault_of, one_line
from fashionclip.serve.keys import Keys
from fashionclip.serve.page import view
from fashionclip.serve.page.shelf import Shelf
from fashionclip.serve.page.state import PAGE_SIZE, State, picture_url
from fashionclip.serve.settings import Settings
from fashionclip.serve.shop import Query, Shop

NEIGHBOURS = 12
SEEN_PX = 400  # of a product's picture when the model looks at it again
STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"
MISTAKES = (FashionCLIPError, ValueError)
GONE_PICTURE = "Your picture is no longer kept here; drop it again to search by it."


def create_router(shop: Shop, settings: Settings) -> APIRouter:
    """The routes of the page.

    Args:
        shop: what is searched.
        settings: the service's limits, and where its keys are.
    """
    page = _Page(shop, settings)
    router = APIRouter(include_in_schema=False)
    for path, answer in (
        ("/", page.search),
        ("/p/{product_id:path}", page.product),
        ("/playground", page.playground),
        ("/login", page.sign_in),
        ("/pictures/{token}", page.picture),
        ("/static/{name}", page.static),
    ):
        router.add_api_route(path, answer, methods=["GET", "HEAD"])
    router.add_api_route("/login", page.signed_in, methods=["POST"])
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

    def __init__(self, shop: Shop, settings: Settings) -> None:
        self._shop, self._settings = shop, settings
        self._shelf = Shelf()
        self._tiles: tuple[str, list[_Tile]] = ("", [])
        folder = files("fashionclip.serve.page") / "static"
        self._static = {name: (folder / name).read_bytes() for name in STATIC}
        self._versions = {
            name: blake2b(data, digest_size=6).hexdigest() for name, data in self._static.items()
        }
        self._templates = Environment(
            loader=PackageLoader("fashionclip.serve.page", "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._templates.globals.update(
            static=lambda name: f"/static/{name}?v={self._versions[name]}",
            text_chars=settings.text_chars,
            here="",
            state=None,
        )

    async def search(self, request: Request) -> HTMLResponse:
        """The results, their filters, and on the start page what to begin with."""
        state = State.read(request.query_params.multi_items())
        notices = []
        if state.picture and self._shelf.get(state.picture) is None:
            notices.append(GONE_PICTURE)
            state = replace(state, picture=None)
        status = HTTPStatus.OK
        hits: Sequence[Hit] = ()
        facets: Sequence[Facet] = ()
        shown: dict[str, Any] = {"error": "", "tiles": [], "has_more": False, "suggestions": ()}
        liked: Mapping[str, Hit] = {}
        try:
            columns = self._shop.columns
            notices += [
                f"There is no column “{name}” in this catalogue; that filter is left out."
                for name in state.unknown_columns(columns)
            ]
            page, facets, liked = await asyncio.gather(
                self._shop.search(self._query(state)), self._facets(state), self._liked(state)
            )
            hits, shown["has_more"] = page.hits, page.has_more
            if state.is_start:
                shown["tiles"] = await self._starts()
            if not hits and not state.is_filtered:
                shown["suggestions"] = await self._shop.suggestions()
        except MISTAKES as exc:
            columns, status = {}, status_of(exc)
            shown["error"] = sentence(exc)
        groups = view.groups(state, facets)
        shown |= {
            "state": state,
            "heading": view.heading(state),
            "count": view.said_count(state, len(hits)),
            "cards": [view.card(hit, state) for hit in hits],
            "chips": view.chips(state, columns, liked),
            "groups": groups,
            "kept": view.kept(state, groups),
            "notices": notices,
            "cleared": State(text=state.text, picture=state.picture, scores=state.scores),
            "scores_toggle": replace(state, scores=not state.scores),
            "without_picture": replace(state, picture=None, offset=0),
            "previous": state.at(state.offset - PAGE_SIZE),
            "next": state.at(state.offset + PAGE_SIZE),
            "page_number": 1 + -(-state.offset // PAGE_SIZE),
        }
        return self._draw("search.html.jinja", status, **shown)

    async def product(self, product_id: str) -> HTMLResponse:
        """One product: its picture, what the catalogue and the model say of it, what is alike."""
        try:
            hit = await self._shop.product(product_id)
            if hit is None:
                return self._fault(
                    HTTPStatus.NOT_FOUND,
                    "This product is not here",
                    f"No product has the number {product_id!r}; it may have been taken out.",
                )
            neighbours, facets, picture = await asyncio.gather(
                self._shop.similar(product_id, NEIGHBOURS),
                self._shop.facets(None),
                self._shop.thumbnail(product_id, SEEN_PX),
            )
            sights = await self._sights(hit, picture, facets)
        except MISTAKES as exc:
            return self._fault(status_of(exc), "That did not work", sentence(exc))
        small, large = (picture_url(product_id, width) for width in view.VIEW_WIDTHS_PX)
        widths = view.VIEW_WIDTHS_PX
        return self._draw(
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
        labels = view.labels_in(asked.get("labels", ""))
        error, status = "", HTTPStatus.OK
        offered: list[_Tile] = []
        ranked: list[tuple[str, float]] = []
        picture = self._shelf.get(token) if token else None
        if token and picture is None:
            error, token = GONE_PICTURE, ""
        try:
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
            error, status = sentence(exc), status_of(exc)
        widest = view.VIEW_WIDTHS_PX[0]
        source = f"/pictures/{token}" if token else picture_url(product_id, widest)
        return self._draw(
            "playground.html.jinja",
            status,
            here="playground",
            picture=token,
            product="" if token else product_id,
            picture_src=source if picture is not None else "",
            picture_name="Your picture" if token else f"Product {product_id}",
            labels=labels,
            ranked=ranked,
            error=error,
            offered=[
                (view.card(tile.hit), _playground_url(tile.hit.product_id, asked.get("labels")))
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
        """Style, script and icon; an address with today's version may be kept for ever."""
        if name not in self._static:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        is_current = request.query_params.get("v") == self._versions[name]
        headers = {"Cache-Control": FOREVER if is_current else "no-cache"}
        return Response(self._static[name], media_type=STATIC[name], headers=headers)

    async def sign_in(self) -> Response:
        """The form that takes a key, if this service has keys."""
        if self._settings.key_file is None:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        return self._draw("login.html.jinja", error="")

    async def signed_in(self, request: Request) -> Response:
        """Keep a key that opens the service in a cookie that no script can read."""
        if self._settings.key_file is None:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        secret = form.get("key", "").strip()
        try:
            keys = await asyncio.to_thread(Keys.read, self._settings.key_file)
        except MISTAKES as exc:
            return self._fault(status_of(exc), "That did not work", sentence(exc))
        if "read" not in keys.scopes(secret):
            error = "This key is not known here; look whether it is whole."
            return self._draw("login.html.jinja", HTTPStatus.FORBIDDEN, error=error)
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        is_secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=is_secure)
        return answer

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

    async def _liked(self, state: State) -> Mapping[str, Hit]:
        names = (*state.like, *state.unlike)
        hits = await asyncio.gather(*(self._shop.product(name) for name in names))
        return {name: hit for name, hit in zip(names, hits, strict=True) if hit is not None}

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

    def _fault(self, status: int, title: str, error: str) -> HTMLResponse:
        return self._draw("fault.html.jinja", status, title=title, error=error)

    def _draw(self, template: str, status: int = HTTPStatus.OK, **shown: object) -> HTMLResponse:
        text = self._templates.get_template(template).render(shown)
        return HTMLResponse(text, status, headers={"Cache-Control": "private, no-cache"})


def status_of(mistake: Exception) -> HTTPStatus:
    """The HTTP status of something that went wrong."""
    return fault_of(mistake).status


def sentence(mistake: Exception) -> str:
    """What went wrong, as a sentence."""
    text = one_line(mistake)
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")


def _playground_url(product_id: str, labels: str | None) -> str:
    asked = {"product": product_id, **({"labels": labels} if labels else {})}
    return f"/playground?{urlencode(asked)}"
