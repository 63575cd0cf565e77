"""A photograph searched garment by garment: one list of hits for each, with one batch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fashionclip.garments import Detector, Garment, find_garments
from fashionclip.images.decode import ImageSource
from fashionclip.images.fetch import FetchPolicy
from fashionclip.model import FashionCLIP
from fashionclip.searching.pending import prepared
from fashionclip.searching.query import Query
from fashionclip.searching.results import Results, results_fields
from fashionclip.searching.search import search_many
from fashionclip.store import Store, require_model


@dataclass(frozen=True, slots=True)
class GarmentResults:
    """A garment of a photograph, and the products that look like it."""

    garment: Garment
    results: Results


def search_garments(
    store: Store,
    model: FashionCLIP,
    image: ImageSource,
    words: Sequence[str] | None = None,
    *,
    detector: Detector | None = None,
    query: Query,
    policy: FetchPolicy | None = None,
) -> list[GarmentResults]:
    """Find the garments of a photograph, and for each the products that look like it.

    Args:
        store: what is searched.
        model: the model that made it; it encodes the crops, and finds the garments if there is no
            detector.
        image: a path, URL, bytes, Pillow image or array.
        words: as in ``find_garments``.
        detector: as in ``find_garments``.
        query: what else is asked of each search, such as ``where`` and ``k``; each crop becomes
            its image.
        policy: how remote images may be fetched.

    Returns:
        The strongest garment first; empty where none stands out.

    Raises:
        ModelMismatchError: the store holds another model's vectors.
        FilterError, ValueError, TypeError: the query or the words make no sense.
        ImageFetchError, ImageError: the image cannot be fetched or decoded.
        StoreError: the store cannot be read.
    """
    garments = find_garments(model, image, words, detector=detector, policy=policy)
    return search_crops(store, model, garments, query)


def search_crops(
    store: Store, model: FashionCLIP, garments: Sequence[Garment], query: Query
) -> list[GarmentResults]:
    """For each garment the products that look like its crop.

    Raises:
        ModelMismatchError, FilterError, ValueError, TypeError, StoreError: as ``search_garments``.
    """
    require_model(store, model=model.name, fingerprint=model.fingerprint)
    prepared(query, store.meta, has_model=True)  # what is wrong with it is said in any case
    queries = [replace(query, image=garment.crop) for garment in garments]
    found = []
    for garment, outcome in zip(garments, search_many(store, model, queries), strict=True):
        if isinstance(outcome, Exception):
            raise outcome
        found.append(GarmentResults(garment, outcome))
    return found


def garment_fields(one: GarmentResults, *, has_groups: bool) -> dict[str, Any]:
    """A garment and its hits for JSON, on the command line and over HTTP.

    Args:
        one: a garment and its hits.
        has_groups: whether hits are grouped; then each has ``n_variants``.
    """
    box = asdict(one.garment.box)
    score = box.pop("score")
    fields = results_fields(one.results, has_groups=has_groups)
    kept = ("hits", "has_more", "hint")
    return {
        "garment": one.garment.word,
        "score": score,
        "box": box,
        **{name: value for name, value in fields.items() if name in kept},
    }
