"""What every page works with: the service, its limits, the templates, uploaded images, suggestions.

Each page parses its URL, calls the service and renders a template; an error is shown in one line.
"""

import asyncio
from dataclasses import dataclass

from fashionclip.errors import FashionCLIPError
from fashionclip.product import Hit
from fashionclip.searching import Query
from fashionclip.serve.page.rendering import Renderer
from fashionclip.serve.page.sorting import date_columns
from fashionclip.serve.page.state import image_url
from fashionclip.serve.page.view import CARD_WIDTHS_PX
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings
from fashionclip.serve.uploads import UploadedImages

EXPECTED_ERRORS = (FashionCLIPError, ValueError)
MODEL_PX = 400
"""Width of the product image that the model sees."""
N_SAMPLED = 50
"""Products whose values show which columns hold dates."""
IMAGE_DROPPED = "Your picture is no longer kept here; drop it again to search by it."


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggested query with its first hit."""

    text: str
    hit: Hit

    @property
    def image(self) -> str:
        """The URL of the hit's image."""
        return image_url(self.hit.product_id, CARD_WIDTHS_PX[0])


class PageContext:
    """What the pages of one app share."""

    def __init__(self, services: Services, settings: Settings, renderer: Renderer) -> None:
        """Open the folder of uploaded images, if there is one.

        Args:
            services: answer searches.
            settings: the service's limits, and the key file.
            renderer: renders templates.
        """
        self._services = services
        self.settings, self.renderer = settings, renderer
        self.uploads = UploadedImages(settings.uploads)
        self._suggestions: tuple[str, list[Suggestion]] = ("", [])
        self._dates: tuple[str, list[str]] = ("", [])

    @property
    def service(self) -> SearchService:
        """What answers the request in progress."""
        return self._services.current

    def check_length(self, what: str, text: str) -> None:
        """Check the length of a text.

        Raises:
            ValueError: it is too long.
        """
        most = self.settings.text_chars
        if len(text) > most:
            message = (
                f"{what} {len(text):,} characters long; the maximum is {most:,}, so shorten it"
            )
            raise ValueError(message)

    async def suggested(self) -> list[Suggestion]:
        """Suggested queries, each with another first hit; computed again when products change."""
        version, suggestions = self._suggestions
        service = self.service
        if version == service.version and suggestions:
            return suggestions
        version = service.version
        texts = await service.suggestions()
        pages = await asyncio.gather(
            *(service.search(Query(text=text, k=len(texts))) for text in texts)
        )
        taken: set[str] = set()
        suggestions = []
        for text, page in zip(texts, pages, strict=True):
            hit = next((hit for hit in page.hits if hit.product_id not in taken), None)
            if hit is not None:
                taken.add(hit.product_id)
                suggestions.append(Suggestion(text, hit))
        self._suggestions = (version, suggestions)
        return suggestions

    async def date_columns(self) -> list[str]:
        """The columns that hold dates, by what the first products have in them."""
        service = self.service
        version, found = self._dates
        if version != service.version:
            version = service.version
            listed = await service.search(Query(k=N_SAMPLED))
            found = date_columns(listed.hits, service.columns)
            self._dates = (version, found)
        return found
