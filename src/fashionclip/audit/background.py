"""Background and centring: the same product on other grounds, moved and shrunk, paired."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from fashionclip.audit.cutouts import GROUNDS, PLACES, WHITE, at_place, cut_out, on_ground
from fashionclip.audit.recall import paired_figure, why_titles_say_nothing
from fashionclip.audit.results import AuditFigure, AuditResult, AuditTable
from fashionclip.audit.shop import MIN_GROUP, SEED, K, Shop, rows_by_text
from fashionclip.errors import FashionCLIPError
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.decode import fetch_image, open_image, thumbnail_uri
from fashionclip.images.fetch import FetchPolicy
from fashionclip.metrics.intervals import mean_interval

QUESTION = "Is a product still recognised and found on another ground, off centre, or small?"
MAX_PRODUCTS = 200
"""Products that are cut out; each is encoded once for each ground and place."""
MAX_TRIED = 1000
LONGEST_PX = 320
PICTURE_PX = 120
_OTHER_GROUNDS = tuple(name for name in GROUNDS if name != WHITE)


@dataclass(frozen=True, slots=True, eq=False)
class Variants:
    """Products cut out, with the vectors of each of their variants."""

    rows: Int[np.ndarray, " n"]
    vectors: Mapping[str, Float[np.ndarray, "n d"]]
    """By ground or place."""


def audit_background(shop: Shop, policy: FetchPolicy) -> AuditResult:
    """Place cut-out products on other grounds and at other places of a white picture."""
    rows, cuts, n_tried = _cut_products(shop, policy)
    if len(cuts) < MIN_GROUP:
        why = (
            f"{len(cuts)} of {n_tried} pictures tried have a product on an even ground that could "
            f"be cut out; it needs {MIN_GROUP}"
        )
        return AuditResult("background", QUESTION, left_out=(f"Not measured: {why}.",))
    left_out: list[str] = []
    variants = Variants(np.array(rows), _encoded(shop, rows, cuts))
    figures = list(_cosines(shop, variants))
    labels = _labels(shop, variants, left_out)
    hits = _hits(shop, variants, left_out)
    for name, values in (("label", labels), ("hit", hits)):
        figures += list(_changes(name, values))
    notes = (
        f"{len(cuts)} products, cut out of {n_tried} pictures tried; the others have no even "
        "ground. All comparisons are with the same cut-out on white at its own place and size, so "
        "that cutting changes nothing.",
        f"Grounds: {', '.join(_OTHER_GROUNDS)}. Places: at 70, 50 and 30 % of the size, centred, "
        "top left and bottom right, on white.",
        *(["Labels are those of article types of at least 20 products, zero-shot."] if labels else []),
    )
    table = _table(variants, labels, hits)
    return AuditResult(
        *("background", QUESTION, tuple(figures), (table,), notes, tuple(left_out)),
        pictures=tuple(_pictures(cuts, variants)),
    )


def _cut_products(
    shop: Shop, policy: FetchPolicy
) -> tuple[list[int], list[Image.Image], int]:
    order = np.random.default_rng(SEED).permutation(len(shop.products))[:MAX_TRIED]
    rows, cuts, n_tried = [], [], 0
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
        shop.encoder.forget(refs)
    return vectors


def _gaps(variants: Variants, names: Sequence[str]) -> Float[np.ndarray, " n"]:
    """One less the cosine with the variant on white, mean over variants."""
    white = variants.vectors[WHITE]
    drops = [1 - (variants.vectors[name] * white).sum(axis=1) for name in names]
    return np.asarray(np.mean(drops, axis=0, dtype=np.float64))


def _cosines(shop: Shop, variants: Variants) -> Iterator[AuditFigure]:
    own = shop.vectors[variants.rows]
    yield paired_figure(
        1.0 - (own * variants.vectors[WHITE]).sum(axis=1, dtype=np.float64),
        name="drop_cut_out",
        title="Drop of the cosine by cutting out",
        meaning="one less the cosine of the shop's picture and the cut-out on white: should be "
        "near 0, or cutting itself changed the product",
        chance=None,
    )
    other = _to_another(shop, variants)
    for names, name, title in (
        (_OTHER_GROUNDS, "drop_ground", "Drop of the cosine on other grounds"),
        (tuple(PLACES), "drop_place", "Drop of the cosine off centre or smaller"),
    ):
        figure = paired_figure(
            _gaps(variants, names),
            name=name,
            title=title,
            meaning="one less the cosine with the same product on white at its own place; the level "
            "beside it is that of another product of the same article type",
        )
        yield replace(figure, chance=other)


def _to_another(shop: Shop, variants: Variants) -> float:
    """Mean of one less the cosine of two different products of one type; NaN without types."""
    codes = shop.values("category")[1]
    rng = np.random.default_rng(SEED)
    drops = []
    for row in variants.rows.tolist():
        others = np.flatnonzero((codes == codes[row]) & (np.arange(len(codes)) != row))
        if codes[row] >= 0 and len(others):
            drops.append(1 - float(shop.vectors[row] @ shop.vectors[rng.choice(others)]))
    return float(np.mean(drops)) if drops else float("nan")


def _labels(
    shop: Shop, variants: Variants, left_out: list[str]
) -> dict[str, Float[np.ndarray, " n"]]:
    """For each variant, 1 where its zero-shot article type is not the one on white."""
    names = [name for name, _ in shop.types()]
    if len(names) < 2:
        left_out.append(
            f"Flips of labels: {len(names)} article types have {MIN_GROUP} products; it needs 2."
        )
        return {}
    texts = shop.encoder.encode_text(names, templates="ensemble")
    labels = {name: (v @ texts.T).argmax(axis=1) for name, v in variants.vectors.items()}
    return {name: (found != labels[WHITE]).astype(np.float64) for name, found in labels.items()}


def _hits(
    shop: Shop, variants: Variants, left_out: list[str]
) -> dict[str, Float[np.ndarray, " n"]]:
    """For each variant, 1 where its title finds it among the shop's other products, else 0."""
    titles = [product.title for product in shop.products]
    if why := why_titles_say_nothing(titles):
        left_out.append(f"Change of recall: {why}.")
        return {}
    queries = shop.encoder.encode_text([titles[row] for row in variants.rows.tolist()])
    cosines = queries @ shop.vectors.T
    alike = rows_by_text(titles)
    for query, row in enumerate(variants.rows.tolist()):
        cosines[query, alike[row]] = -np.inf  # the product itself, and what its title names too
    limit = -np.partition(-cosines, K - 1, axis=1)[:, K - 1] if len(titles) >= K else -np.inf
    return {
        name: ((queries * v).sum(axis=1) > limit).astype(np.float64)
        for name, v in variants.vectors.items()
    }


def _changes(kind: str, values: Mapping[str, Float[np.ndarray, " n"]]) -> Iterator[AuditFigure]:
    if not values:
        return
    white = values[WHITE]
    what, meaning = {
        "label": (
            "Flips of the label",
            "share of products whose zero-shot article type is another one than on white",
        ),
        "hit": (
            f"Change of found in the first {K}",
            "share found by their titles less the share on white, paired",
        ),
    }[kind]
    if kind == "hit":
        yield paired_figure(
            white,
            name="hit_white",
            title=f"Found in the first {K}, on white",
            meaning="share of the cut-out products that their titles find",
            chance=None,
        )
    for names, name, where in (
        (_OTHER_GROUNDS, "ground", "on other grounds"),
        (tuple(PLACES), "place", "off centre or smaller"),
    ):
        yield paired_figure(
            np.mean([values[variant] for variant in names], axis=0) - white,
            name=f"{kind}_{name}",
            title=f"{what} {where}",
            meaning=meaning,
        )


def _table(
    variants: Variants,
    labels: Mapping[str, np.ndarray],
    hits: Mapping[str, np.ndarray],
) -> AuditTable:
    rows = []
    for name in (*_OTHER_GROUNDS, *PLACES):
        cells = [_cell(_gaps(variants, [name]))]
        cells.append(_cell(labels[name]) if labels else "—")
        cells.append(_cell(hits[name] - hits[WHITE]) if hits else "—")
        rows.append((name, *cells))
    head = ("ground or place", "drop of the cosine", "labels flipped", f"change of found@{K}")
    return AuditTable("By ground and place, with 95 % intervals", head, tuple(rows))


def _cell(values: Float[np.ndarray, " n"]) -> str:
    low, high = mean_interval(values, seed=SEED)
    return f"{values.mean():.3f} [{low:.3f} to {high:.3f}]"


def _pictures(
    cuts: Sequence[Image.Image], variants: Variants
) -> Iterator[tuple[str, str]]:
    """The median product by its drop, on each ground and at some places."""
    names = (*GROUNDS, *(name for name in PLACES if "30 %" in name))
    chosen = int(np.argsort(_gaps(variants, _OTHER_GROUNDS))[len(cuts) // 2])
    white = variants.vectors[WHITE][chosen]
    for name in names:
        make = on_ground if name in GROUNDS else at_place
        cosine = float(variants.vectors[name][chosen] @ white)
        yield f"{name}, cosine {cosine:.2f}", thumbnail_uri(make(cuts[chosen], name), max_px=PICTURE_PX)
