"""Background and centring: the same product on other grounds, moved and shrunk, paired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from fashionclip.audit.cutouts import GROUNDS, PLACES, WHITE, at_place, cut_out, on_ground
from fashionclip.audit.findings import Findings, mean_of, share_of
from fashionclip.audit.recall import why_titles_say_nothing
from fashionclip.audit.shop import MIN_GROUP, SEED, K, Shop, rows_by_text
from fashionclip.errors import FashionCLIPError
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.decode import fetch_image, open_image
from fashionclip.images.fetch import FetchPolicy

MAX_PRODUCTS = 150
"""Products that are cut out; each is encoded once for each ground and place."""
N_VARIANTS = MAX_PRODUCTS * (len(GROUNDS) + len(PLACES))
MAX_TRIED = 1000
LONGEST_PX = 320
OTHER_GROUNDS = tuple(name for name in GROUNDS if name != WHITE)
OFF_CENTRE = tuple(PLACES)
_ENSEMBLE = "ensemble"


@dataclass(frozen=True, slots=True, eq=False)
class Variants:
    """Products cut out, with the vectors of each of their variants."""

    rows: Int[np.ndarray, " n"]
    vectors: Mapping[str, Float[np.ndarray, "n d"]]
    """By ground or place."""


def audit_background(shop: Shop, policy: FetchPolicy, name: str = "background") -> TaskResult:
    """Place cut-out products on other grounds, and elsewhere and smaller on white.

    All comparisons are with the same cut-out on white at its own place and size.

    Args:
        shop: the catalogue.
        policy: how remote pictures may be fetched.
        name: of the result.

    Returns:
        ``ground_drop`` (the headline) and ``place_drop`` of the cosine, ``cut_out_drop``,
        ``ground_flips`` and ``place_flips`` of zero-shot article types, and
        ``ground_hit_change@10`` and ``place_hit_change@10``.
    """
    rows, cuts, n_tried = _cut_products(shop, policy)
    found = Findings(name, "ground_drop")
    if len(cuts) < MIN_GROUP:
        found.left_out.append(
            f"Not measured: {len(cuts)} of {n_tried} pictures tried have a product on an even "
            f"ground that could be cut out; it needs {MIN_GROUP}."
        )
        return found.result()
    found.notes.append(
        f"{len(cuts)} products, cut out of {n_tried} pictures tried: the others have no even "
        "ground. Ground that a product encloses, and soft shadows, stay. Grounds: "
        f"{', '.join(OTHER_GROUNDS)}. Places: 70, 50 and 30 % of the size on white, centred, top "
        "left and bottom right. Compared with the same cut-out on white at its own place and size."
    )
    variants = Variants(np.array(rows), _encoded(shop, rows, cuts))
    _add_drops(found, shop, variants)
    _add_flips(found, shop, variants)
    _add_hits(found, shop, variants)
    return found.result()


def _cut_products(shop: Shop, policy: FetchPolicy) -> tuple[list[int], list[Image.Image], int]:
    order = np.random.default_rng(SEED).permutation(len(shop.products))[:MAX_TRIED]
    rows: list[int] = []
    cuts: list[Image.Image] = []
    n_tried = 0
    for row in order.tolist():
        if len(cuts) == MAX_PRODUCTS:
            break
        n_tried += 1
        try:
            source = fetch_image(shop.products[row].image.source, policy=policy)
            image = open_image(source, target_px=LONGEST_PX).copy()
        except FashionCLIPError:
            continue  # its vector came from the cache, and the picture is gone since
        image.thumbnail((LONGEST_PX, LONGEST_PX))
        if (cut := cut_out(image)) is not None:
            rows.append(row)
            cuts.append(cut)
    return rows, cuts, n_tried


def _encoded(
    shop: Shop, rows: Sequence[int], cuts: Sequence[Image.Image]
) -> dict[str, Float[np.ndarray, "n d"]]:
    """Vectors of all variants, one kind after the other, so that few pictures are held."""
    vectors = {}
    for name in (*GROUNDS, *PLACES):
        make = on_ground if name in GROUNDS else at_place
        refs = [
            ImageRef(f"{shop.products[row].image.image_id}, {name}", make(cut, name))
            for row, cut in zip(rows, cuts, strict=True)
        ]
        vectors[name] = shop.encoder.encode_images(refs)
        if isinstance(shop.encoder, CachedEncoder):
            shop.encoder.forget(refs)
    return vectors


def _add(
    found: Findings,
    metric: str,
    of_variant: Mapping[str, Float[np.ndarray, " n"]],
    heading: str,
    *,
    chance: float | None = None,
    lowest: float | None = None,
) -> None:
    """Add the mean over grounds, that over places, and a row for each of both.

    Args:
        found: where to add it.
        metric: with ``{}`` for ``ground`` or ``place``.
        of_variant: a value for each product, by ground or place.
        heading: of the table.
        chance: of both figures.
        lowest: that a value can be, if it cannot be above 1; None for cosines.
    """

    def figure(values: Float[np.ndarray, " n"]) -> Figure:
        return mean_of(values) if lowest is None else share_of(values, lowest=lowest)

    for what, names in (("ground", OTHER_GROUNDS), ("place", OFF_CENTRE)):
        values = np.stack([of_variant[name] for name in names]).mean(axis=0, dtype=np.float64)
        found.add(metric.format(what), figure(values), chance=chance)
        for name in names:
            found.add_to(heading, name, figure(of_variant[name]))


def _add_drops(found: Findings, shop: Shop, variants: Variants) -> None:
    white = variants.vectors[WHITE]
    drops = {
        name: 1 - (vectors * white).sum(axis=1, dtype=np.float64)
        for name, vectors in variants.vectors.items()
    }
    _add(found, "{}_drop", drops, "Drop of the cosine", chance=_to_another(shop, variants))
    own = shop.vectors[variants.rows]
    found.add("cut_out_drop", mean_of(1 - (own * white).sum(axis=1, dtype=np.float64)))


def _to_another(shop: Shop, variants: Variants) -> float | None:
    """Mean of one less the cosine of two different products of one type; None without types."""
    codes = shop.values("category")[1]
    rng = np.random.default_rng(SEED)
    drops = []
    for row in variants.rows.tolist():
        others = np.flatnonzero((codes == codes[row]) & (np.arange(len(codes)) != row))
        if codes[row] >= 0 and len(others):
            drops.append(1 - float(shop.vectors[row] @ shop.vectors[rng.choice(others)]))
    return float(np.mean(drops)) if drops else None


def _add_flips(found: Findings, shop: Shop, variants: Variants) -> None:
    """Add how many products have another zero-shot article type than on white."""
    names = [name for name, _ in shop.types()]
    if len(names) < 2:
        found.left_out.append(
            f"Flips of labels: {len(names)} article types have {MIN_GROUP} products; it needs 2."
        )
        return
    texts = shop.encoder.encode_text(names, templates=_ENSEMBLE)
    labels = {name: (v @ texts.T).argmax(axis=1) for name, v in variants.vectors.items()}
    flips = {name: np.asarray(x != labels[WHITE], np.float64) for name, x in labels.items()}
    heading = f"Flips of the zero-shot article type, of {len(names)} types"
    _add(found, "{}_flips", flips, heading, lowest=0.0)


def _add_hits(found: Findings, shop: Shop, variants: Variants) -> None:
    """Add how many fewer products their titles find than on white, among the shop's others."""
    titles = [product.title for product in shop.products]
    if why := why_titles_say_nothing(titles):
        found.left_out.append(f"Change of the hit rate: {why}.")
        return
    titled = np.flatnonzero([bool(titles[row]) for row in variants.rows.tolist()])
    if len(titled) < MIN_GROUP:
        found.left_out.append(f"Change of the hit rate: {len(titled)} cut-outs have a title.")
        return
    rows = variants.rows[titled].tolist()
    queries = shop.encoder.encode_text([titles[row] for row in rows])
    cosines = queries @ shop.vectors.T
    alike = rows_by_text(titles)
    for query, row in enumerate(rows):
        cosines[query, alike[row]] = -np.inf  # the product itself, and what its title names too
    limits = -np.partition(-cosines, K - 1, axis=1)[:, K - 1]
    hits = {
        name: np.asarray((queries * v[titled]).sum(axis=1) > limits, np.float64)
        for name, v in variants.vectors.items()
    }
    changes = {name: values - hits[WHITE] for name, values in hits.items()}
    _add(
        found, f"{{}}_hit_change@{K}", changes, f"Change of the hit rate@{K} of titles", lowest=-1.0
    )
    found.add_to(f"Hit rate@{K} of titles", "cut out, on white", share_of(hits[WHITE]))
