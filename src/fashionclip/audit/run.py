"""All audits of models on one catalogue, over vectors that are computed once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from fashionclip.audit.background import N_VARIANTS, audit_background
from fashionclip.audit.brands import audit_brands
from fashionclip.audit.gender import audit_gender
from fashionclip.audit.prices import audit_prices
from fashionclip.audit.query_length import audit_query_length
from fashionclip.audit.recall import OwnTitles, ask_for_own_titles
from fashionclip.audit.shop import MIN_GROUP, AuditedProduct, Shop, read_products
from fashionclip.catalog import Catalog
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.leakage import LeakageCheck
from fashionclip.evaluate.results import Run, TaskResult
from fashionclip.evaluate.run import Job, OpenEncoder, ProgressCallback, measure_models
from fashionclip.images.fetch import FetchPolicy
from fashionclip.model import FashionCLIP


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """What an audit may need."""

    shop: Shop
    titles: OwnTitles
    policy: FetchPolicy


_AUDITS: Mapping[str, Callable[[_Given, str], TaskResult]] = MappingProxyType(
    {
        "gender": lambda given, name: audit_gender(given.shop, given.titles, name),
        "background": lambda given, name: audit_background(given.shop, given.policy, name),
        "query-length": lambda given, name: audit_query_length(given.shop, name),
        "brands": lambda given, name: audit_brands(given.shop, name),
        "prices": lambda given, name: audit_prices(given.shop, given.titles, name),
    }
)
AUDITS = tuple(_AUDITS)
"""The audits by name, in the order of the report."""


def audit_models(
    models: Iterable[FashionCLIP],
    catalog: Catalog,
    *,
    only: Sequence[str] = AUDITS,
    cache: Path | None = None,
    open_encoder: OpenEncoder | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Run, dict[str, str]]:
    """Audit models on a catalogue.

    Every audit is made of all products, and again of those whose pictures the model was not
    trained on, as far as its folder has a record of its training data.

    Args:
        models: opened one after the other, if this is a generator.
        catalog: the products; what its columns do not say is left out, and said.
        only: names of ``AUDITS``.
        cache: folder for vectors, shared with evaluations; None keeps nothing.
        open_encoder: opens what encodes a model's pictures; None for this process.
        progress: called as pictures get done.

    Returns:
        The run, with a task ``<catalogue>/<audit>`` for each audit, and no pictures for its report.

    Raises:
        CatalogError: the table cannot be read on.
        EvaluationError: an unknown audit, no product with a picture that can be read, a model that
            gives NaN, or a cache that cannot be used.
    """
    if unknown := [name for name in only if name not in _AUDITS]:
        message = f"there is no audit '{unknown[0]}'; there are {', '.join(AUDITS)}"
        raise EvaluationError(message)
    products, n_rejected, notes = read_products(catalog)
    if n_rejected:
        notes.append(
            f"Rows that have no picture or cannot be used: {n_rejected:,}; 'fashionclip catalog "
            "check' says why."
        )
    prepared = _Prepared(products, catalog.policy, tuple(notes))
    place = Path(catalog.location.rstrip("/"))
    stem = place.parent.name if place.suffix and place.stem == "catalog" else place.stem
    shop_name = stem or "catalogue"
    names = [name for name in AUDITS if name in only]
    images = tuple(product.image for product in products)
    jobs = [
        Job(
            f"{shop_name}/{name}",
            images if number == 0 else (),
            _scorer(prepared, name, f"{shop_name}/{name}", is_first=number == 0),
            n_images=(len(images) if number == 0 else 0)
            + (N_VARIANTS if name == "background" else 0),
        )
        for number, name in enumerate(names)
    ]
    return measure_models(
        models,
        jobs,
        missing={},
        title="Audit",
        cache=cache,
        policy=catalog.policy,
        open_encoder=open_encoder,
        progress=progress,
    )


def _scorer(
    prepared: "_Prepared", audit: str, name: str, *, is_first: bool
) -> Callable[[CachedEncoder, LeakageCheck | None], TaskResult]:
    """What scores one audit for a model; the first one has the notes on the catalogue."""

    def score(encoder: CachedEncoder, check: LeakageCheck | None) -> TaskResult:
        every, unseen = prepared.given(encoder, check)
        result = _AUDITS[audit](every, name)
        n_seen = int(every.shop.seen.sum())
        result = replace(result, n=len(every.shop.products), n_seen=n_seen)
        if unseen is not None:
            result = _with_unseen(result, _AUDITS[audit](unseen, name))
        if is_first:
            warnings = (*every.shop.notes, *result.warnings)
            result = replace(result, warnings=warnings, left_out=every.shop.n_lost)
        return result

    return score


def _with_unseen(result: TaskResult, unseen: TaskResult) -> TaskResult:
    """A result with the figures and tables of the unseen products beside its own."""
    groups = dict(result.details["groups"])
    groups |= {f"{title}, unseen only": rows for title, rows in unseen.details["groups"].items()}
    figures = {name: unseen.figures[name] for name in result.figures if name in unseen.figures}
    return replace(
        result,
        unseen=figures,
        details={**result.details, "groups": groups, "p_unseen": unseen.details["p"]},
        warnings=(*result.warnings, *(f"Unseen only: {text}" for text in unseen.warnings)),
    )


class _Prepared:
    """The catalogue with the vectors of the model that is being measured, made once for it."""

    def __init__(
        self, products: Sequence[AuditedProduct], policy: FetchPolicy, notes: tuple[str, ...]
    ) -> None:
        self._products, self._policy, self._notes = products, policy, notes
        self._encoder: CachedEncoder | None = None
        self._made: tuple[_Given, _Given | None] | None = None

    def given(
        self, encoder: CachedEncoder, check: LeakageCheck | None
    ) -> tuple[_Given, _Given | None]:
        """All products, and those that the model has not seen if it has seen others."""
        if self._made is None or self._encoder is not encoder:
            shop = self._shop(encoder, check)
            unseen = None
            if shop.seen.any() and (~shop.seen).sum() >= MIN_GROUP:
                unseen = self._with_titles(shop.of(np.flatnonzero(~shop.seen)))
            self._made = self._with_titles(shop), unseen
            self._encoder = encoder
        return self._made

    def _with_titles(self, shop: Shop) -> _Given:
        return _Given(shop, ask_for_own_titles(shop), self._policy)

    def _shop(self, encoder: CachedEncoder, check: LeakageCheck | None) -> Shop:
        """The products whose pictures can be read.

        Raises:
            EvaluationError: there is none.
        """
        images = [product.image for product in self._products]
        vectors = encoder.encode_images(images)
        kept = np.isfinite(vectors).all(axis=1)
        if not kept.any():
            message = (
                "no picture of the catalogue can be read; 'fashionclip catalog check' says why"
            )
            raise EvaluationError(message)
        seen = np.zeros(len(images), bool)
        if check is not None:
            digests = encoder.digests(images)
            seen = check.is_same_file(digests)
            rest = np.flatnonzero(~seen & kept).tolist()
            seen[rest] = check.is_near_duplicate(
                [images[row] for row in rest], [digests[row] for row in rest]
            )
        notes = list(self._notes)
        if lost := int((~kept).sum()):
            why = next(iter(encoder.unreadable.values()), "")
            notes.append(
                f"Pictures that could not be read and are left out: {lost:,} ({why[:120]})."
            )
        return Shop(
            products=tuple(p for p, ok in zip(self._products, kept.tolist(), strict=True) if ok),
            vectors=vectors[kept],
            encoder=encoder,
            seen=seen[kept],
            n_lost=lost,
            notes=tuple(notes),
        )
