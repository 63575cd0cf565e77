"""The page of a photograph's garments: boxes on it, and products like the chosen one."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from PIL import Image

from fashionclip.garments import Garment
from fashionclip.product import Hit
from fashionclip.searching import Query
from fashionclip.serve.http_errors import client_message, http_error_of
from fashionclip.serve.localizing import Photo
from fashionclip.serve.page import view
from fashionclip.serve.page.context import EXPECTED_ERRORS, IMAGE_DROPPED, PageContext
from fashionclip.serve.page.rendering import sentence

N_HITS = 24
LABEL_SHARE = 0.045
"""Height of a box's label, as a share of the photograph's longer side."""
CROP_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Choice:
    """A garment that can be chosen."""

    garment: Garment
    url: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class GarmentsPage:
    """Answers the requests of the page of a photograph's garments."""

    context: PageContext

    async def show(self, request: Request) -> HTMLResponse:
        """The photograph with its garments, and the products that look like the chosen one."""
        token = request.query_params.get("picture", "")
        asked = request.query_params.get("garment", "")
        error, status, retry_after_s = "", HTTPStatus.OK, 0
        photo, chosen, crop = Photo(1, 1, ()), 0, ""
        hits: Sequence[Hit] = ()
        image = self.context.uploads.get(token) if token else None
        if image is None:
            error = IMAGE_DROPPED if token else "Drop a photo on the page to find its garments."
        else:
            try:
                photo = await self.context.service.localizer.garments(image)
                chosen = int(asked) if asked.isdecimal() and len(asked) < 4 else 0
                if chosen < len(photo.garments):
                    garment = photo.garments[chosen]
                    crop = await self._keep(garment.crop)
                    hits = await self._hits(garment)
            except EXPECTED_ERRORS as exc:
                fault = http_error_of(exc)
                error, status = sentence(client_message(exc)), HTTPStatus(fault.status)
                retry_after_s = fault.retry_after_s
        roles = self.context.service.roles
        return self.context.renderer.page(
            "garments.html.jinja",
            status,
            retry_after_s=retry_after_s,
            query_image=crop or (token if image is not None else ""),
            token=token,
            error=error,
            photo=photo,
            label_px=round(LABEL_SHARE * max(photo.width, photo.height), 1),
            choices=[
                Choice(garment, _url(token, i), is_chosen=i == chosen)
                for i, garment in enumerate(photo.garments)
            ],
            cards=[view.card(hit, roles) for hit in hits],
            crop=crop,
        )

    async def _hits(self, garment: Garment) -> Sequence[Hit]:
        (found,) = await self.context.service.localizer.search([garment], Query(k=N_HITS))
        return found.results.hits

    async def _keep(self, crop: Image.Image) -> str:
        """Keep a crop as an uploaded image, so that a search of its own can go on with it."""
        encoded = io.BytesIO()
        crop.save(encoded, "JPEG", quality=CROP_QUALITY)
        return await asyncio.to_thread(
            self.context.uploads.put,
            encoded.getvalue(),
            max_pixels=self.context.settings.pixels,
        )


def _url(token: str, garment: int) -> str:
    return f"/garments?{urlencode({'picture': token, 'garment': garment})}"
