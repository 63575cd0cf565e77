"""Garments in a photograph: which there are and where, each cut out so that it can be searched by.

``find_garments`` is the way in. ``WordDetector`` finds garments by words and the model alone; a
``Detector`` of one's own can take its place.
"""

from fashionclip.garments.detector import THRESHOLD, DetectedGarment, Detector, WordDetector
from fashionclip.garments.find import MAX_GARMENTS, Garment, crop_garments, find_garments
from fashionclip.garments.words import MAX_WORDS, check_words, garment_words

__all__ = [
    "MAX_GARMENTS",
    "MAX_WORDS",
    "THRESHOLD",
    "DetectedGarment",
    "Detector",
    "Garment",
    "WordDetector",
    "check_words",
    "crop_garments",
    "find_garments",
    "garment_words",
]
