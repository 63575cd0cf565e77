"""The page of one product: image, columns, the model's predictions, similar products."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi.responses import HTMLResponse, Response

from fashionclip.errors import ImageError
from fashionclip.product import Hit
from fashionclip.searching import Query
from fashionclip.serve.facets import Facet
from fashionclip.serve.page import view
from fashionclip.serve.page.changes import sliders
from fashionclip.serve.page.context import EXPECTED_ERRORS, MODEL_PX, PageContext
from fashionclip.serve.page.find_in_picture import PARTS, find_in_picture
from fashionclip.serve.page.state import State, image_url, view_url
from fashionclip.serve.page.texts import url_value

N_SIMILAR = 12
MAX_VARIANTS = 48


@dataclass(frozen=True, slots=True)
class ProductPage:
    """Answers the requests of products' pages."""

    context: PageContext

    async def show(self, product_id: str, find: str = "") -> HTMLResponse:
        """One product; where the word ``find`` is on its picture."""
        service, renderer = self.context.service, self.context.renderer
        roles = service.roles
        try:
            hit = await service.product(product_id)
            if hit is None:
                message = f"there is no product {product_id!r}; it may have been deleted"
                return renderer.error(HTTPStatus.NOT_FOUND, message)
            similar, variants, facets, image, found = await asyncio.gather(
                service.search(Query(similar_to=(product_id,), k=N_SIMILAR)),
                self._variants(hit),
                service.facets(None),
                service.thumbnail(product_id, MODEL_PX),
                find_in_picture(self.context, product_id, find),
            )
            predictions = await self._predictions(hit, image, facets)
        except EXPECTED_ERRORS as exc:
            return renderer.exception(exc)
        small, large = (image_url(product_id, width) for width in view.VIEW_WIDTHS_PX)
        widths = view.VIEW_WIDTHS_PX
        return renderer.page(
            "product.html.jinja",
            card=view.card(hit, roles),
            sliders=sliders(()),
            title=view.title_of(hit, roles, most=view.MAX_PAGE_TITLE_CHARS),
            found=found,
            find_words=PARTS,
            image=small,
            image_set=f"{small} {widths[0]}w, {large} {widths[1]}w",
            description=view.description_of(hit, roles),
            facts=view.facts(hit, facets, roles),
            views=[
                (view_url(product_id, i + 1, widths[0]), view_url(product_id, i + 1, widths[1]))
                for i in range(service.n_views(hit))
            ],
            variants=[(view.card(one, roles), view.variant_of(one, roles)) for one in variants],
            breadcrumbs=view.breadcrumbs(hit, facets, roles),
            predictions=predictions,
            playground_url=f"/playground?{urlencode({'product': product_id})}",
            similar=[view.card(other, roles) for other in similar.hits],
        )

    async def picture(self, number: int, product_id: str, width: int = MODEL_PX) -> Response:
        """A further view of a product."""
        found = await self.context.service.view(product_id, number, width)
        if found is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(found, media_type="image/jpeg", headers=headers)

    async def _variants(self, hit: Hit) -> Sequence[Hit]:
        """All products of a product's group, if there are others."""
        service = self.context.service
        group = service.roles.group
        value = None if group is None else hit.columns.get(group)
        if group is None or value is None:
            return ()
        where = State(chosen={group: (url_value(value),)}).where(service.columns)
        found = (await service.search(Query(where=where, k=MAX_VARIANTS))).hits
        return found if len(found) > 1 else ()

    async def _predictions(
        self, hit: Hit, image: bytes | None, facets: Sequence[Facet]
    ) -> list[view.Prediction]:
        """What the model predicts for the columns that an image can show."""
        if image is None:
            return []
        service = self.context.service
        questions = view.questions(hit, facets, service.roles)
        try:
            outcomes = await asyncio.gather(
                *(service.classify(image, one.labels, one.template) for one in questions)
            )
        except ImageError:  # the page shows an unreadable image as missing
            return []
        pairs = zip(questions, outcomes, strict=True)
        return [view.prediction(question, outcome) for question, outcome in pairs]
