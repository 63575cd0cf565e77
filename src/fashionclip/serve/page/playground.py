"""The playground: labels of the visitor's own, scored against an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse

from fashionclip.serve.http_errors import client_message, http_error_of
from fashionclip.serve.page import view
from fashionclip.serve.page.context import (
    EXPECTED_ERRORS,
    IMAGE_DROPPED,
    MODEL_PX,
    PageContext,
    Suggestion,
)
from fashionclip.serve.page.rendering import sentence
from fashionclip.serve.page.state import image_url


@dataclass(frozen=True, slots=True)
class PlaygroundPage:
    """Answers the requests of the playground."""

    context: PageContext

    async def show(self, request: Request) -> HTMLResponse:
        """An image, labels, and their probabilities."""
        service = self.context.service
        query = request.query_params
        token, product_id = query.get("picture", ""), query.get("product", "")
        typed = query.get("labels", "")
        labels = view.parse_labels(typed)
        error, status = "", HTTPStatus.OK
        offered: list[Suggestion] = []
        ranked: list[tuple[str, float]] = []
        image = self.context.uploads.get(token) if token else None
        if token and image is None:
            error, token = IMAGE_DROPPED, ""
        roles = service.roles
        try:
            self.context.check_length("all labels together are", typed)
            offered = await self.context.suggested()
            if not token and not product_id and offered:
                product_id = offered[0].hit.product_id
            if image is None and product_id:
                image = await service.thumbnail(product_id, MODEL_PX)
                if image is None:
                    error = f"Product {product_id!r} has no picture to score; choose another one."
            labels = labels or view.category_labels(await service.facets(None), roles)
            if image is not None and labels:
                ranked = await self._ranked(image, labels)
        except EXPECTED_ERRORS as exc:
            error, status = sentence(client_message(exc)), http_error_of(exc).status
        source = f"/pictures/{token}" if token else image_url(product_id, view.VIEW_WIDTHS_PX[0])
        return self.context.renderer.page(
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

    async def _ranked(self, image: bytes, labels: Sequence[str]) -> list[tuple[str, float]]:
        most = self.context.settings.batch
        if len(labels) > most:
            message = f"that is {len(labels)} labels; the maximum is {most}"
            raise ValueError(message)
        outcome = await self.context.service.classify(image, labels, None)
        return sorted(outcome, key=lambda pair: -pair[1])


def _playground_url(product_id: str, labels: str) -> str:
    query = {"product": product_id, **({"labels": labels} if labels else {})}
    return f"/playground?{urlencode(query)}"
