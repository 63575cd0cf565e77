"""A photograph of an outfit, put together from drawn products, and a detector that knows it."""

import numpy as np
from PIL import Image, ImageChops

from fashionclip.garments import DetectedGarment, WordDetector
from fashionclip.garments.detector import is_photograph
from fashionclip.localization import Box
from fashionclip.sample import Attributes, generate_image

SIZE = (360, 720)
GROUND = (214, 219, 222)
PLACES = {"shirt": (60, 30, 300, 350), "jeans": (75, 300, 285, 640)}
"""Where products are pasted: left, top, right, bottom."""


def outfit(top: str = "shirt", bottom: str = "jeans") -> tuple[Image.Image, dict[str, tuple]]:
    """The photograph, and the box of each garment in it: left, top, right, bottom in pixels."""
    photo = Image.new("RGB", SIZE, GROUND)
    truth = {}
    wanted = {top: ("red", "long", "collar"), bottom: ("blue", None, None)}
    for (name, (colour, sleeve, neckline)), place in zip(
        wanted.items(), PLACES.values(), strict=True
    ):
        drawn = generate_image(Attributes(name, colour, "solid", None, sleeve, neckline), seed=3)
        rows, columns = np.nonzero(np.asarray(drawn).min(axis=2) < 245)
        drawn = drawn.crop((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        drawn = drawn.resize((place[2] - place[0], place[3] - place[1]))
        shown = photo.crop(place)
        photo.paste(ImageChops.multiply(shown, drawn), place)
        truth[name] = place
    return photo, truth


class OutfitDetector(WordDetector):
    """Finds a sweater and a skirt where ``outfit`` puts them, whatever the model sees.

    For tests of what is done with garments. It looks for the words that it is given, as its parent.
    """

    def detect(self, image: Image.Image) -> list[DetectedGarment]:
        """The garments that are looked for; none in a picture of one colour."""
        places = zip(("sweater", "skirt"), PLACES.values(), (0.9, 0.8), strict=True)
        return [
            DetectedGarment(word, Box(*place, score=score))
            for word, place, score in places
            if word in self.words and is_photograph(image)
        ]
