"""The vectors of queries: all texts in one pass of the model, all images in another."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from fashionclip.errors import FashionCLIPError
from fashionclip.images.fetch import FetchPolicy
from fashionclip.model import FashionCLIP
from fashionclip.searching.cursors import require_image
from fashionclip.searching.directions import moved
from fashionclip.searching.pending import Pending
from fashionclip.searching.ranking import unit


def encode_queries(
    queries: Mapping[int, Pending], model: FashionCLIP | None, policy: FetchPolicy | None
) -> dict[int, FashionCLIPError | ValueError]:
    """Encode what queries are made of, and combine it to a vector per query.

    Args:
        queries: get their vectors.
        model: None will do where nothing has to be encoded.
        policy: how remote images may be fetched.

    Returns:
        The errors of those that have an image that cannot be read, a change that leads nowhere, or
        the cursor of another image.
    """
    _encode_texts(queries.values(), model)
    errors = _encode_images(queries, model, policy)
    for i, one in queries.items():
        if i in errors or not one.query.compares_vectors:
            continue
        words = one.query.words
        text = one.texts[words] if words else None
        one.start = one.vector = _combine(text, one.images, one.query.weight)
        try:
            if one.changes:
                strength = one.query.but_strength
                one.vector, one.applied = moved(one.start, one.changes, one.texts, strength)
            require_image(one.image_print, one.vector)
        except ValueError as exc:
            errors[i] = exc
    return errors


def _encode_texts(queries: Iterable[Pending], model: FashionCLIP | None) -> None:
    by_templates: dict[object, list[Pending]] = {}
    for one in queries:
        templates = one.query.templates
        key = templates if isinstance(templates, str | None) else tuple(templates)
        by_templates.setdefault(key, []).append(one)
    for some in by_templates.values():
        texts = list(dict.fromkeys(text for one in some for text in one.needed_texts))
        if model is None or not texts:
            continue
        vectors = model.encode_text(texts, templates=some[0].query.templates)
        encoded = dict(zip(texts, vectors, strict=True))
        for one in some:
            one.texts = {text: encoded[text] for text in one.needed_texts}


def _encode_images(
    queries: Mapping[int, Pending], model: FashionCLIP | None, policy: FetchPolicy | None
) -> dict[int, FashionCLIPError | ValueError]:
    images = {i: one.query.image for i, one in queries.items()}
    given = {i: image for i, image in images.items() if image is not None}
    errors: dict[int, FashionCLIPError | ValueError] = {}
    if model is None or not given:
        return errors
    found = model.iter_images(
        given.values(), batch_size=len(given), workers=min(len(given), 8), policy=policy
    )
    for i, vector in zip(given, found, strict=True):
        if isinstance(vector, FashionCLIPError):
            errors[i] = vector
        else:
            queries[i].images.append(vector)
    return errors


def _combine(
    text: np.ndarray | None, images: Sequence[np.ndarray], weight: float
) -> Float[np.ndarray, " dim"]:
    if not images and text is not None:
        return text
    image = unit(np.mean(images, axis=0))
    combined = image if text is None else weight * text + (1.0 - weight) * image
    return unit(combined).astype(np.float32)
