"""Where in an image words are: maps in its own pixels, strengths, boxes, overlays.

``FashionCLIP.localize`` is the way in. The image is encoded once, whatever the number of words.
"""

from fashionclip.localization.boxes import Box, boxes_of
from fashionclip.localization.contrasts import CONTRASTS, check_texts
from fashionclip.localization.frames import has_one_color, starts
from fashionclip.localization.locate import localize
from fashionclip.localization.result import THRESHOLD, Localization, facts_of

__all__ = [
    "CONTRASTS",
    "THRESHOLD",
    "Box",
    "Localization",
    "boxes_of",
    "check_texts",
    "facts_of",
    "has_one_color",
    "localize",
    "starts",
]
