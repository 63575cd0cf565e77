"""``find_garments``: the garments of a photograph, each with its crop."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from fashionclip.errors import ImageError
from fashionclip.garments.detector import DetectedGarment, Detector, WordDetector
from fashionclip.images.decode import ImageSource, fetch_image, open_image
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy
from fashionclip.localization import Box
from fashionclip.model import FashionCLIP

MARGIN = 0.06
"""Of a crop: this share of the box's sides is added on every side."""
MAX_GARMENTS = 8


@dataclass(frozen=True, slots=True)
class Garment:
    """A garment of a photograph."""

    word: str
    box: Box
    """Pixels of the photograph."""
    crop: Image.Image
    """The box with a margin, cut out of the photograph."""

    @property
    def score(self) -> float:
        """How sure the detector is, in 0…1."""
        return self.box.score


def find_garments(
    model: FashionCLIP | None,
    image: ImageSource,
    words: Sequence[str] | None = None,
    *,
    detector: Detector | None = None,
    policy: FetchPolicy | None = None,
) -> list[Garment]:
    """Find garments in a photograph; none where nothing stands out.

    >>> for garment in find_garments(model, "street.jpg"):
    ...     print(garment.word, garment.box)

    Args:
        model: looks for them; None will do where there is a detector.
        image: a path, URL, bytes, Pillow image or array.
        words: what is looked for, such as a shop's own categories; None for ``garment_words()``.
        detector: finds them in place of the model, by words of its own.
        policy: how a remote image may be fetched.

    Returns:
        At most ``MAX_GARMENTS``, in the order of the detector: strongest first.

    Raises:
        ImageFetchError, ImageError: the image cannot be fetched or decoded.
        ValueError: no words, an empty one, too many, or words beside a detector; neither model nor
            detector.
    """
    if detector is None and model is None:
        message = "neither model nor detector is given; one of them has to find the garments"
        raise ValueError(message)
    if detector is not None and words is not None:
        message = "words and detector are both given; a detector has words of its own"
        raise ValueError(message)
    if detector is None:
        assert model is not None
        detector = WordDetector(model, words)
    photo = open_image(fetch_image(image, policy=policy or DEFAULT_POLICY))
    return crop_garments(photo, detector.detect(photo))


def crop_garments(photo: Image.Image, found: Iterable[DetectedGarment]) -> list[Garment]:
    """Cut detected garments out of a photograph.

    Args:
        photo: upright RGB.
        found: the first ``MAX_GARMENTS`` are cut out. A box that reaches beyond the photograph
            ends at its edge.

    Raises:
        ImageError: a box has no pixel in the photograph.
    """
    garments = []
    for one in list(found)[:MAX_GARMENTS]:
        box = _inside(one.box, photo.size)
        if box.right <= box.left or box.bottom <= box.top:
            message = (
                f"the box of {one.word!r} has no pixel in the image of {photo.width} x "
                f"{photo.height}; the detector gives left, top, right, bottom in its pixels"
            )
            raise ImageError(message)
        dx, dy = MARGIN * (box.right - box.left), MARGIN * (box.bottom - box.top)
        wide = replace(
            box,
            left=round(box.left - dx),
            top=round(box.top - dy),
            right=round(box.right + dx),
            bottom=round(box.bottom + dy),
        )
        cut = _inside(wide, photo.size)
        crop = photo.crop((cut.left, cut.top, cut.right, cut.bottom))
        garments.append(Garment(one.word, box, crop))
    return garments


def _inside(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return replace(
        box,
        left=max(0, box.left),
        top=max(0, box.top),
        right=min(width, box.right),
        bottom=min(height, box.bottom),
    )
