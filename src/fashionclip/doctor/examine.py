"""``examine_catalog``: everything that the doctor looks at, as one report."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fashionclip.catalog import Catalog
from fashionclip.doctor.certainty import MIN_PRODUCTS
from fashionclip.doctor.duplicates import find_duplicates
from fashionclip.doctor.findings import KINDS, Finding, Kind, best_first, counts_by_kind
from fashionclip.doctor.labels import JudgedText, judge_captions, judge_labels
from fashionclip.doctor.neighbours import nearest, outliers
from fashionclip.doctor.pictures import Judged, judge_pictures
from fashionclip.doctor.reading import read_shop
from fashionclip.doctor.shop import Shop, tell_apart
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.model import FashionCLIP
from fashionclip.product import Reject

LEAST = 0.5
"""The least confidence of a finding, if none is asked for."""
NOT_LABELS = (
    *("id", "group", "title", "image", "sku", "barcode", "price", "sale_price", "currency"),
    *("brand", "size", "highlights", "description"),
)
"""Roles whose columns hold no labels that a picture shows."""

NEED_COLUMN: Collection[Kind] = ("category", "attribute")
"""Kinds that are not judged where no column has labels."""

Progress = Callable[[str, int, int], None]
"""Called with what is done at the moment, and the numbers of products and rejects so far."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the doctor found in a catalogue."""

    n_products: int
    """Products whose pictures were examined."""
    findings: Sequence[Finding]
    """In the order of the kinds, the most certain of each kind first."""
    n_fine: int
    """Findings that are left out because they were marked as fine."""
    fine: Collection[str]
    """The keys of those, so that they stay marked."""
    pictures: Sequence[Judged]
    """How each fault of pictures was judged."""
    texts: Sequence[JudgedText]
    """How the captions and each column of labels were judged."""
    variants: Sequence[tuple[str, ...]]
    """Groups of products that are one product in several colours, which is no fault."""
    rejects: Sequence[Reject]
    """Rows and pictures that cannot be used."""

    @property
    def unjudged(self) -> dict[Kind, str]:
        """Why nothing could be said of a kind, in none of its columns, for each such kind."""
        reasons: dict[Kind, list[str]] = {kind: [] for kind in NEED_COLUMN}
        judged: list[Judged | JudgedText] = [*self.pictures, *self.texts]
        for one in judged:
            reasons.setdefault(one.kind, []).append(one.reason)
        return {
            kind: "; ".join(dict.fromkeys(reasons[kind])) or "no column has such labels"
            for kind in KINDS
            if kind in reasons and all(reasons[kind])
        }

    def as_dict(self) -> dict[str, object]:
        """The report as plain values for JSON; rejects are left to the caller."""
        return {
            "n_products": self.n_products,
            "counts": counts_by_kind(self.findings),
            "n_fine": self.n_fine,
            "findings": [finding.as_dict() for finding in self.findings],
            "pictures": [asdict(judged) for judged in self.pictures],
            "texts": [asdict(judged) for judged in self.texts],
            "variants": [list(ids) for ids in self.variants],
        }


def examine_catalog(
    catalog: Catalog,
    model: FashionCLIP,
    *,
    cache: Path | None = None,
    kinds: Collection[Kind] = KINDS,
    least: float = LEAST,
    fine: Collection[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Look for what is wrong with a catalogue's pictures, captions and labels.

    Args:
        catalog: the products.
        model: encodes pictures and captions.
        cache: folder of vectors and measures, from which a later run goes on; None for memory only.
        kinds: the kinds to report.
        least: confidence of a finding, 0…1; a lower one finds more and is wrong more often.
        fine: keys of findings that were marked as fine.
        progress: called as products get done.

    Raises:
        CatalogError: the table cannot be read on.
        EvaluationError: the cache cannot be written.
        ValueError: ``least`` is not in 0…1.
    """
    if not 0 <= least <= 1:
        message = f"least is {least}; a confidence is 0 to 1"
        raise ValueError(message)
    say = progress or (lambda what, done, rejected: None)
    shop = read_shop(
        catalog,
        model,
        cache=cache,
        columns=label_columns(catalog),
        kinds=kinds,
        progress=lambda done, rejected: say("Reading", done, rejected),
    )
    return examine_shop(
        shop, model, catalog, cache=cache, kinds=kinds, least=least, fine=fine, say=say
    )


def examine_shop(
    shop: Shop,
    model: FashionCLIP,
    catalog: Catalog,
    *,
    cache: Path | None,
    kinds: Collection[Kind],
    least: float,
    fine: Collection[str],
    say: Progress,
) -> Report:
    """Judge a catalogue that was read; arguments as ``examine_catalog``."""
    n, roles = len(shop.ids), catalog.roles
    texts: list[JudgedText] = []
    found: list[Finding] = []
    say("Captions", 0, len(shop.rejects))
    if "caption" in kinds and n:
        vectors = CachedEncoder(model, cache).encode_text(shop.captions)
        captions, judged_captions = judge_captions(shop, vectors, roles.category, least)
        found += captions
        texts.append(judged_captions)
    say("Labels", n, len(shop.rejects))
    labels, judged_labels = judge_labels(shop, roles.category, least) if n else ([], [])
    found += labels
    texts += judged_labels
    say("Pictures", n, len(shop.rejects))
    pictures, judged = judge_pictures(shop, least, kinds) if n else ([], [])
    found += pictures
    near, cosines = nearest(
        shop.pictures.vectors, progress=lambda done: say("Neighbours", done, len(shop.rejects))
    )
    found += outliers(shop, cosines, least)
    judged += _not_judged(shop)
    copies, variants = find_duplicates(shop, near, cosines, least, roles.colour) if n else ([], [])
    found += copies
    wanted = [one for one in found if one.kind in kinds]
    known = {one.key for one in wanted if one.key in fine}
    return Report(
        n_products=n,
        findings=best_first(one for one in wanted if one.key not in known),
        n_fine=len(known),
        fine=sorted(fine),
        pictures=[one for one in judged if one.kind in kinds],
        texts=texts,
        variants=variants,
        rejects=shop.rejects,
    )


def _not_judged(shop: Shop) -> list[Judged]:
    """The kinds by neighbours that this shop says too little for."""
    n, reasons = len(shop.ids), dict[Kind, str]()
    if n < MIN_PRODUCTS:
        reasons["outlier"] = f"{n:,} pictures are too few (at least {MIN_PRODUCTS})"
    if not tell_apart(shop.captions):
        reasons["same_product"] = "captions are equal, so they do not say which products are one"
    return [Judged(kind, float("nan"), 0, reason) for kind, reason in reasons.items()]


def label_columns(catalog: Catalog) -> list[str]:
    """The columns of text whose values may be labels of what a picture shows."""
    roles = catalog.roles.as_dict()
    others = {roles.get(role) for role in NOT_LABELS}
    return [n for n, kind in catalog.columns.items() if kind == "string" and n not in others]
