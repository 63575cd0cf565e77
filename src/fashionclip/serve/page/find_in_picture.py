"""Words looked for on a product's picture: the map over it, and what the page says of it."""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from fashionclip.serve.http_errors import client_message
from fashionclip.serve.localizing import MAP_WIDTH_PX
from fashionclip.serve.page.context import EXPECTED_ERRORS, PageContext
from fashionclip.serve.page.rendering import sentence

PARTS = ("sleeve", "collar", "pocket", "buttons", "belt", "strap", "heel", "laces")
"""Words that the page offers."""


@dataclass(frozen=True, slots=True)
class FoundInPicture:
    """What became of a word."""

    word: str
    message: str
    """In one sentence; empty if no word was asked for."""
    map: str = ""
    """The URL of the picture with the map over it; empty if there is none."""


async def find_in_picture(context: PageContext, product_id: str, word: str) -> FoundInPicture:
    """Look for a word on a product's picture.

    Args:
        context: what the pages share.
        product_id: the product.
        word: as it was typed.
    """
    word = " ".join(word.split())
    if not word:
        return FoundInPicture("", "")
    try:
        context.check_length("the word is", word)
        picture = await context.service.thumbnail(product_id, MAP_WIDTH_PX)
        if picture is None:
            return FoundInPicture(word, "This product has no picture to look at.")
        located = await context.service.localizer.words(picture, [word])
    except EXPECTED_ERRORS as exc:
        return FoundInPicture(word, sentence(client_message(exc)))
    url = f"/v1/maps/{quote(product_id, safe='')}?{urlencode({'word': word})}"
    score = f"{100 * located.scores[0]:.0f} %"
    if located.boxes()[0]:
        return FoundInPicture(word, f"“{word}” stands out where it is coloured ({score}).", url)
    return FoundInPicture(word, f"“{word}” was not found in this picture ({score}).", url)
