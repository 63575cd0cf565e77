"""The shortlist: products that a visitor has picked, in a URL that can be shared.

The browser keeps the ids (``static/shortlist.js``); the server only shows those of the URL.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from fashionclip.product import Hit
from fashionclip.serve.page import view
from fashionclip.serve.page.context import PageContext
from fashionclip.serve.page.csv_export import csv_of
from fashionclip.serve.page.rendering import csv_file

PATH = "/shortlist"
MAX_IDS = 200


@dataclass(frozen=True, slots=True)
class ShortlistPage:
    """Answers the requests of the shortlist."""

    context: PageContext

    async def show(self, request: Request) -> HTMLResponse:
        """The products of the URL, each with a link to the list without it."""
        asked = _ids(request)
        hits, missing = await self._products(asked[:MAX_IDS])
        notices = [f"Product {one} no longer exists; it is left out." for one in missing]
        if len(asked) > MAX_IDS:
            notices.append(f"A shortlist has at most {MAX_IDS} products; the first are shown.")
        ids = [hit.product_id for hit in hits]
        roles = self.context.service.roles
        return self.context.renderer.page(
            "shortlist.html.jinja",
            here="shortlist",
            cards=[view.card(hit, roles) for hit in hits],
            without={one: url(other for other in ids if other != one) for one in ids},
            csv_url=url(ids, path=f"{PATH}.csv"),
            notices=notices,
        )

    async def csv(self, request: Request) -> Response:
        """The same products as CSV."""
        hits, _ = await self._products(_ids(request)[:MAX_IDS])
        service = self.context.service
        data = await asyncio.to_thread(csv_of, hits, list(service.columns), service.roles)
        return csv_file(data, "shortlist.csv")

    async def _products(self, ids: Sequence[str]) -> tuple[list[Hit], list[str]]:
        """Products in the order of their ids, and the ids that there are none of."""
        found = [(one, await self.context.service.product(one)) for one in ids]
        hits = [hit for _, hit in found if hit is not None]
        return hits, [one for one, hit in found if hit is None]


def url(ids: Iterable[str], *, path: str = PATH) -> str:
    """The URL of a shortlist."""
    query = "&".join(f"ids={quote(one, safe='')}" for one in ids)
    return f"{path}?{query}" if query else path


def _ids(request: Request) -> list[str]:
    return list(dict.fromkeys(filter(None, request.query_params.getlist("ids"))))
