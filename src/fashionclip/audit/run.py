"""All audits of one model on one catalogue, over vectors that are computed once."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import numpy as np

from fashionclip.audit.background import audit_background
from fashionclip.audit.brands import audit_brands
from fashionclip.audit.gender import audit_gender
from fashionclip.audit.prices import audit_prices
from fashionclip.audit.query_length import audit_query_length
from fashionclip.audit.recall import OwnTitles, ask_for_own_titles
from fashionclip.audit.results import AuditResult, AuditRun
from fashionclip.audit.shop import AuditedProduct, Shop, read_products
from fashionclip.catalog import Catalog
from fashionclip.encoding import Encoder
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.leakage import LeakageCheck, read_training_data
from fashionclip.images.fetch import FetchPolicy
from fashionclip.model import FashionCLIP

Progress = Callable[[str, int, int], None]
"""Called with what is being measured, and how many pictures of how many are done."""


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """What an audit may need."""

    shop: Shop
    titles: OwnTitles
    policy: FetchPolicy


_AUDITS: Mapping[str, Callable[[_Given], AuditResult]] = MappingProxyType(
    {
        "gender": lambda given: audit_gender(given.shop, given.titles),
        "background": lambda given: audit_background(given.shop, given.policy),
        "query-length": lambda given: audit_query_length(given.shop),
        "brands": lambda given: audit_brands(given.shop),
        "prices": lambda given: audit_prices(given.shop, given.titles),
    }
)
AUDITS = tuple(_AUDITS)
"""The audits by name, in the order of the report."""


def audit_catalog(
    model: FashionCLIP,
    catalog: Catalog,
    *,
    only: Sequence[str] = AUDITS,
    unseen: bool = False,
    cache: Path | None = None,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
) -> AuditRun:
    """Audit a model on a catalogue.

    Args:
        model: whose answers are audited.
        catalog: the products; what its columns do not say is left out, and said.
        only: names of ``AUDITS``.
        unseen: take only products whose pictures the model was not trained on, as far as its
            folder has a record of that.
        cache: folder for vectors, shared with evaluations; None keeps nothing.
        encoder: who decodes and encodes the pictures; None for this process.
        progress: called as pictures get done.

    Raises:
        CatalogError: the table cannot be read on.
        EvaluationError: an unknown audit, no product that can be audited, a model that gives NaN,
            or a cache that cannot be used.
    """
    if unknown := [name for name in only if name not in _AUDITS]:
        message = f"there is no audit '{unknown[0]}'; there are {', '.join(AUDITS)}"
        raise EvaluationError(message)
    begin = time.perf_counter()
    counter = _Counter(progress or (lambda what, done, total: None))
    products, n_rejected, notes = read_products(catalog)
    cached = CachedEncoder(
        model, cache, policy=catalog.policy, encoder=encoder, progress=counter.advance
    )
    seen, more = _seen(model, products, cached, cache, catalog.policy, near=unseen)
    if unseen:
        products = [product for product, is_seen in zip(products, seen, strict=True) if not is_seen]
        seen = seen[~seen]
    shop = _encoded(products, seen, cached, counter, n_rejected, [*notes, *more])
    counter.start("titles", 0)
    given = _Given(shop, ask_for_own_titles(shop), catalog.policy)
    results = []
    for name in (name for name in AUDITS if name in only):
        counter.start(name, 0)
        results.append(_AUDITS[name](given))
    engine = f"{model.engine.device} {model.engine.precision}"
    run = AuditRun(
        model=_short_name(model),
        fingerprint=model.fingerprint,
        engine=engine,
        catalogue=Path(catalog.location.rstrip("/")).name,
        n_products=len(shop.products),
        n_rejected=shop.n_rejected,
        n_seen=int(shop.seen.sum()),
        audits=tuple(results),
        notes=shop.notes,
        seconds=time.perf_counter() - begin,
        encoding_seconds=cached.encoding_seconds,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("fashionclip"),
    )
    return run


def _seen(
    model: FashionCLIP,
    products: Sequence[AuditedProduct],
    encoder: CachedEncoder,
    cache: Path | None,
    policy: FetchPolicy,
    *,
    near: bool,
) -> tuple[np.ndarray, list[str]]:
    """Which products' pictures the model was trained on, and what to say of it.

    Args:
        model: whose folder may have digests of its training data.
        products: all of them.
        encoder: has the digests of their pictures.
        cache: for hashes of their pictures.
        policy: how remote pictures may be fetched.
        near: look for near duplicates too, which decodes every picture that is no training file.
    """
    none = np.zeros(len(products), bool)
    training = read_training_data(model.checkpoint.folder)
    if training is None:
        note = "The model's training data is not known: it may have these pictures."
        return none, [f"{note} So --unseen leaves out nothing." if near else note]
    images = [product.image for product in products]
    check = LeakageCheck([training], cache, policy=policy)
    digests = encoder.digests(images)
    seen = check.is_same_file(digests)
    if near:
        rest = np.flatnonzero(~seen)
        seen[rest] = check.is_near_duplicate(
            [images[row] for row in rest], [digests[row] for row in rest]
        )
        return seen, [
            f"{int(seen.sum()):,} of {len(seen):,} products are left out: their pictures are in "
            "the model's training data, or are near duplicates of it."
        ]
    if not seen.any():
        return seen, []
    return seen, [
        f"{int(seen.sum()):,} of {len(seen):,} pictures are files of the model's training data, "
        "which makes figures of recall higher than on new products; --unseen leaves them out."
    ]


def _encoded(
    products: Sequence[AuditedProduct],
    seen: np.ndarray,
    encoder: CachedEncoder,
    counter: "_Counter",
    n_rejected: int,
    notes: Sequence[str],
) -> Shop:
    """The shop of the products whose pictures can be read."""
    counter.start("pictures", len(products))
    vectors = encoder.encode_images([product.image for product in products])
    kept = np.isfinite(vectors).all(axis=1) if len(products) else np.zeros(0, bool)
    if not kept.any():
        message = (
            "no picture of the catalogue can be read; 'fashionclip catalog check' says why"
            if products
            else "the model was trained on all pictures of the catalogue; leave out --unseen"
        )
        raise EvaluationError(message)
    lost = len(products) - int(kept.sum())
    if lost:
        why = next(iter(encoder.unreadable.values()), "")
        notes = [*notes, f"{lost:,} pictures could not be read and are left out ({why[:120]})."]
    return Shop(
        products=tuple(p for p, ok in zip(products, kept.tolist(), strict=True) if ok),
        vectors=vectors[kept],
        encoder=encoder,
        seen=seen[kept],
        n_rejected=n_rejected + lost,
        notes=tuple(notes),
    )


def _short_name(model: FashionCLIP) -> str:
    """A folder's own name for a model in a folder, without its whole path."""
    path = Path(model.name)
    return path.resolve().name if path.is_dir() else model.name


class _Counter:
    """How many pictures of the present step are done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._what, self._done, self._total = "", 0, 0

    def start(self, what: str, total: int) -> None:
        """Begin the next step; 0 where its number of pictures is not known."""
        self._what, self._done, self._total = what, 0, total
        self._progress(what, 0, total)

    def advance(self, modality: str, n: int) -> None:
        """Count pictures; encoding texts takes little time."""
        if modality == "images":
            self._done += n
            self._progress(self._what, self._done, max(self._total, self._done))
