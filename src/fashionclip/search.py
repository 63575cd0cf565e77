"""A question to an index: words, a picture, a product of the index, or several of them at once.

The only room that knows both the model and the index. It makes one unit vector of the
question, asks the index for its neighbours, and ranks them again where the question has
things to avoid (``avoid``) or should also match the captions' own words (``hybrid``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from fashionclip.errors import FashionCLIPError
from fashionclip.images.fetch import FetchPolicy
from fashionclip.index.store import Searchable
from fashionclip.model import FashionCLIP, ImageSource
from fashionclip.product import Hit

POOL = 500
"""Hits that are ranked again together, where there is something to avoid or to match."""
FUSION_RANK = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009)."""
NEUTRAL = "product"
"""What is left of a text when nothing in particular is said: the origin of texts' meanings."""


def search(
    index: Searchable,
    model: FashionCLIP | None,
    *,
    text: str | None = None,
    image: ImageSource | None = None,
    similar_to: str | Sequence[str] = (),
    unlike: str | Sequence[str] = (),
    weight: float = 0.5,
    avoid: str | Sequence[str] = (),
    avoid_weight: float = 1.0,
    where: str | None = None,
    k: int = 10,
    offset: int = 0,
    hybrid: bool = False,
    templates: str | Sequence[str] | None = None,
    exact: bool | None = None,
    policy: FetchPolicy | None = None,
) -> list[Hit]:
    """Find the products that fit a question best.

    The question's vector is ``unit(weight * words + (1 - weight) * unit(mean of pictures))``,
    each part a unit vector; the pictures are ``image`` and the stored ones of ``similar_to``.
    Where there are only things to avoid, the words are ``NEUTRAL``.

    With things to avoid (``avoid``, ``unlike``), the best candidates (at least ``POOL`` of them)
    are ranked again by

        ``score - avoid_weight * spread * sum over phrases a of max(0, z_a)``

    where ``z_a`` says how much more than the median candidate a product looks like what ``a``
    adds to the question, in standard deviations over the candidates, and ``spread`` is the
    standard deviation of their scores, so that 1 means the same for every model and question.
    What ``a`` adds is the direction ``a - n`` without its part along ``q - n``, for the words
    ``q`` of the question and a neutral text ``n``: red is not held against red dresses in
    "red dress" without "red shoes". Subtracting the vector of ``a`` from the question's
    instead would push the question away from the pictures of clothes altogether. What a product
    of ``unlike`` adds is what sets its picture apart from the mean of the candidates.

    With ``hybrid``, the vectors' ranking and the full-text ranking of the captions are fused:
    ``score = sum over rankings of 1 / (60 + rank)``.

    Args:
        index: what is searched.
        model: the model that made the index; None will do for ``similar_to`` alone.
        text: words.
        image: a picture: path, URL, bytes, Pillow image or array.
        similar_to: id of a product of the index, or several; they themselves are left out.
        unlike: id of a product that hits should not look like, or several; left out too.
        weight: share of the words where there are words and a picture, in 0…1.
        avoid: a phrase, or several, that hits should not show.
        avoid_weight: how much avoiding counts, 0 or more; 0 is not at all.
        where: SQL over the catalogue's columns, applied before the vectors are compared.
        k: hits wanted, at least 1.
        offset: hits to leave out at the start, for pages. Pages fit together up to ``POOL``
            hits, and without ``avoid`` and ``hybrid`` at any depth.
        hybrid: match the words with the captions too.
        templates: prompt templates for the words, as in ``FashionCLIP.encode_text``.
        exact: True compares every vector even where there is an approximate index.
        policy: how a remote picture may be fetched.

    Returns:
        Hits, best first, equal scores in the order of their ids. The score is the cosine of
        question and product, less the penalty; with ``hybrid`` it is the fused score.

    Raises:
        ValueError: nothing to look for, or a number out of range.
        ModelMismatchError: the index holds another model's vectors; names both.
        FilterError: ``where`` does not fit the columns.
        ProductNotFoundError: no product has an id that is named; StoreCorruptError.
        ImageFetchError: the picture cannot be fetched; ImageError: it cannot be decoded.

    Source: fusion after Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms
        Condorcet and individual rank learning methods", SIGIR 2009, equation 1.
    """
    text = (text or "").strip() or None
    phrases = [phrase.strip() for phrase in _several(avoid) if phrase.strip()]
    liked, disliked = _several(similar_to), _several(unlike)
    is_penalised = bool(phrases or disliked)
    if text is None and image is None and not liked and is_penalised:
        text = NEUTRAL
    _check(text, image, liked, weight, avoid_weight, k, offset, hybrid=hybrid)
    if model is not None:
        index.require_model(model.name, model.fingerprint)
    meanings = _encode_words(model, text, phrases, templates)
    pictures = [index.get(name)[0] for name in liked]
    if image is not None:
        pictures.append(_encode_picture(_needed(model), image, policy))
    query = _combine(meanings.get(text) if text else None, pictures, weight)

    last = offset + k
    is_reranked = hybrid or bool(is_penalised and avoid_weight)
    depth = -(-last // POOL) * POOL if is_reranked else last
    but = frozenset((*liked, *disliked))
    rankings = [_nearest(index, query, depth, where, exact=exact, but=but)]
    if hybrid and text:
        words_hits = index.text_search(text, k=depth, where=where)
        rankings.append([hit for hit in words_hits if hit.product_id not in but])
    if is_penalised and avoid_weight:
        directions = avoided_directions(meanings, text, phrases) if phrases else None
        apart = [index.get(name)[0] for name in disliked]
        penalties = _penalties(index, rankings, directions, apart)
        rankings = [_demoted(hits, penalties, avoid_weight) for hits in rankings]
    hits = rankings[0] if len(rankings) == 1 else fuse(rankings)
    return hits[offset:last]


def fuse(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Reciprocal rank fusion of rankings, best first; see :func:`search`."""
    scores: dict[str, float] = {}
    products: dict[str, Hit] = {}
    for hits in rankings:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.product_id] = scores.get(hit.product_id, 0.0) + 1.0 / (FUSION_RANK + rank)
            products.setdefault(hit.product_id, hit)
    return _sorted(replace(products[name], score=score) for name, score in scores.items())


def avoided_directions(
    meanings: Mapping[str, Float[np.ndarray, " dim"]], text: str | None, phrases: Sequence[str]
) -> Float[np.ndarray, "phrase dim"]:
    """What each phrase adds to the question's words, as unit vectors; see :func:`search`.

    Args:
        meanings: unit vectors of the words, the phrases and ``NEUTRAL``.
        text: the question's words, if it has any.
        phrases: what to avoid.
    """
    neutral = meanings[NEUTRAL].astype(np.float64)
    added = np.stack([meanings[phrase] for phrase in phrases]) - neutral
    if text is not None:
        asked = _unit(meanings[text] - neutral)
        # only the shared part goes; a phrase that means the opposite keeps its whole direction
        added -= np.maximum(added @ asked, 0.0)[:, None] * asked
    return _unit(added)


def _several(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _check(
    text: str | None,
    image: ImageSource | None,
    liked: Sequence[str],
    weight: float,
    avoid_weight: float,
    k: int,
    offset: int,
    *,
    hybrid: bool,
) -> None:
    faults = {
        "nothing to look for: give text, image or similar_to": (
            text is None and image is None and not liked
        ),
        "hybrid matches words with captions: give text too": hybrid and text is None,
        f"weight is {weight}; it is the share of the words, 0 to 1": not 0 <= weight <= 1,
        f"avoid_weight is {avoid_weight}; it must be 0 or more": not 0 <= avoid_weight < np.inf,
        f"k is {k}: ask for at least 1 hit": k < 1,
        f"offset is {offset}; it must be 0 or more": offset < 0,
    }
    for message, is_wrong in faults.items():
        if is_wrong:
            raise ValueError(message)


def _needed(model: FashionCLIP | None) -> FashionCLIP:
    if model is None:
        message = "words and pictures need the model that made the index; similar_to alone does not"
        raise ValueError(message)
    return model


def _encode_words(
    model: FashionCLIP | None,
    text: str | None,
    phrases: Sequence[str],
    templates: str | Sequence[str] | None,
) -> dict[str, np.ndarray]:
    """Unit vectors of all words of a question, in one batch; none if it has no words."""
    words = ([text] if text else []) + ([*phrases, NEUTRAL] if phrases else [])
    if not words:
        return {}
    vectors = _needed(model).encode_text(words, templates=templates)
    return dict(zip(words, vectors, strict=True))


def _encode_picture(
    model: FashionCLIP, image: ImageSource, policy: FetchPolicy | None
) -> np.ndarray:
    (vector,) = model.iter_images([image], batch_size=1, workers=1, policy=policy)
    if isinstance(vector, FashionCLIPError):
        raise vector
    return vector


def _combine(
    words: np.ndarray | None, pictures: Sequence[np.ndarray], weight: float
) -> Float[np.ndarray, " dim"]:
    if not pictures and words is not None:
        return words
    seen = _unit(np.mean(pictures, axis=0))
    combined = seen if words is None else weight * words + (1.0 - weight) * seen
    return _unit(combined).astype(np.float32)


def _nearest(
    index: Searchable,
    query: np.ndarray,
    depth: int,
    where: str | None,
    *,
    exact: bool | None,
    but: frozenset[str],
) -> list[Hit]:
    hits = index.nearest(query, k=depth + len(but), where=where, exact=exact)
    return [hit for hit in hits if hit.product_id not in but][:depth]


def _penalties(
    index: Searchable,
    rankings: Sequence[Sequence[Hit]],
    directions: np.ndarray | None,
    apart: Sequence[np.ndarray],
) -> dict[str, float]:
    """How much each candidate shows of what is to be avoided, in standard deviations."""
    names = list(dict.fromkeys(hit.product_id for hits in rankings for hit in hits))
    stored = index.vectors(names)
    whole = [name for name in names if name in stored]  # nothing is known of a damaged vector
    if not whole:
        return {}
    vectors = np.stack([stored[name] for name in whole])
    wrong = [] if directions is None else [directions]
    if apart:
        wrong.append(_unit(np.stack(apart) - vectors.mean(axis=0)))
    shown = vectors @ np.concatenate(wrong).T
    above = shown - np.median(shown, axis=0)
    z = above / np.maximum(shown.std(axis=0), 1e-9)
    return dict(zip(whole, np.maximum(z, 0.0).sum(axis=1).tolist(), strict=True))


def _demoted(hits: Sequence[Hit], penalties: Mapping[str, float], weight: float) -> list[Hit]:
    spread = float(np.std([hit.score for hit in hits])) if hits else 0.0
    return _sorted(
        replace(hit, score=hit.score - weight * spread * penalties.get(hit.product_id, 0.0))
        for hit in hits
    )


def _sorted(hits: Iterable[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.product_id))


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12))
