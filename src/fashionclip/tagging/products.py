"""Tags for whole catalogues and indexes, as a stream: one item a product, in order."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from fashionclip.catalog import Catalog
from fashionclip.errors import FashionCLIPError, LabelError
from fashionclip.index.store import Store
from fashionclip.model import FashionCLIP, ImageSource
from fashionclip.product import Product, Reject, Value
from fashionclip.tagging.calibration import calibrate
from fashionclip.tagging.labels import SEVERAL_SIGN, LabelSet
from fashionclip.tagging.scoring import Tag, Tagger

PRODUCTS_A_BATCH = 256  # tagged at once; the labels' part of the work is small beside encoding
OTHER_SIGNS = ",;"  # that may stand between the labels of a product in one cell


@dataclass(frozen=True, slots=True)
class TaggedProduct:
    """A product and what each label set says of it."""

    product_id: str
    """The shop's identifier."""
    row: int | None
    """Row of the catalogue; None for products of an index."""
    tags: tuple[Tag, ...]
    """A tag a label set, in their order."""

    def as_row(self) -> dict[str, object]:
        """Set it as a row of a table: ``id``, and per set the label, probability and margin.

        ``NAME`` is the label, a path such as ``Clothing > Tops``, or ``none of these``; with
        ``several`` it is a list. ``NAME_probability`` belongs to it (of none of these: to the
        label that came nearest), a list with ``several``. ``NAME_margin`` is how far the next
        one is; see :class:`Tag`.
        """
        fields: dict[str, object] = {"id": self.product_id}
        for tag in self.tags:
            fields.update(_fields(tag))
        return fields


def tag_catalog(
    catalog: Catalog,
    model: FashionCLIP,
    label_sets: Sequence[LabelSet],
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> Iterator[TaggedProduct | Reject]:
    """Tag the products of a catalogue by their pictures.

    Streams: memory does not grow with the catalogue. A row or picture that cannot be used
    becomes a ``Reject`` in its place and costs nothing else.

    Args:
        catalog: the products.
        model: encodes pictures and labels.
        label_sets: what to tag with.
        batch_size: pictures the model takes at once.
        workers: threads that fetch and decode pictures; None for one a core.

    Yields:
        For each row, in the catalogue's order, the tagged product or a reject.

    Raises:
        LabelError: no label sets, or one was calibrated for another model.
        CatalogError: the catalogue cannot be read.
        ValueError: ``batch_size`` is below 1.
    """
    tagger = Tagger(model, label_sets)
    encoded = _encoded_products(catalog, model, batch_size=batch_size, workers=workers)
    while batch := list(islice(encoded, PRODUCTS_A_BATCH)):
        vectors = [item[1] for item in batch if not isinstance(item, Reject)]
        tags = iter(tagger.tag(np.stack(vectors)) if vectors else ())
        for item in batch:
            if isinstance(item, Reject):
                yield item
            else:
                yield TaggedProduct(item[0].product_id, item[0].row, next(tags))


def tag_index(
    index: Store, model: FashionCLIP, label_sets: Sequence[LabelSet]
) -> Iterator[TaggedProduct | Reject]:
    """Tag the products of an index by the vectors it holds; no picture is read.

    Args:
        index: made by the same model.
        model: encodes the labels.
        label_sets: what to tag with.

    Yields:
        Each product, or a reject where its stored vector is damaged.

    Raises:
        ModelMismatchError: the index holds another model's vectors.
        LabelError: no label sets, or one was calibrated for another model.
        StoreCorruptError: the files are damaged.
    """
    index.require_model(model.name, model.fingerprint)
    tagger = Tagger(model, label_sets)
    ids = index.iter_ids()
    while batch := list(islice(ids, PRODUCTS_A_BATCH)):
        stored = index.vectors(batch)
        whole = [product_id for product_id in batch if product_id in stored]
        rows = tagger.tag(np.stack([stored[name] for name in whole])) if whole else []
        tags = dict(zip(whole, rows, strict=True))
        for name in batch:
            if name in tags:
                yield TaggedProduct(name, None, tags[name])
            else:
                reason = "its stored vector is damaged: fashionclip index --verify STORE --mend"
                yield Reject(None, name, None, reason)


def calibrate_on_catalog(
    catalog: Catalog,
    model: FashionCLIP,
    label_sets: Sequence[LabelSet],
    *,
    columns: Mapping[str, str] | None = None,
    precision: float = 0.9,
    batch_size: int = 32,
    workers: int | None = None,
) -> list[LabelSet]:
    """Calibrate label sets on a catalogue whose columns hold some products' labels.

    Args:
        catalog: the labelled products; an empty cell says nothing of its product, ``none of
            these`` says that no label fits. The labels of ``several`` are split at ``|,;``.
        model: encodes pictures and labels.
        label_sets: what to calibrate; a set without a column stays as it is.
        columns: the name of each set's column, where it is not the set's own name.
        precision: as :func:`calibrate`.
        batch_size: pictures the model takes at once.
        workers: threads that fetch and decode pictures; None for one a core.

    Raises:
        LabelError: no set has a column, a cell holds a label that its set does not have, or no
            product is labelled.
        CatalogError: the catalogue cannot be read.
        ValueError: as :func:`calibrate`.
    """
    wanted = {labels.name: (columns or {}).get(labels.name, labels.name) for labels in label_sets}
    found = {name: column for name, column in wanted.items() if column in catalog.columns}
    if not found or set(columns or {}) - set(found):
        message = (
            f"the catalogue has no column {', '.join(sorted(set(wanted.values())))} to calibrate "
            f"with: it has {', '.join(catalog.columns)}"
        )
        raise LabelError(message)
    told = {name: _Told() for name in found}
    for item in _encoded_products(catalog, model, batch_size=batch_size, workers=workers):
        if isinstance(item, Reject):
            continue
        for name, column in found.items():
            told[name].hear(item[0].columns.get(column), item[1])
    return [
        calibrate(
            labels,
            model,
            told[labels.name].stacked(model.dim),
            told[labels.name].truth(labels),
            precision=precision,
        )
        if labels.name in told
        else labels
        for labels in label_sets
    ]


@dataclass
class _Told:
    """The products whose cell in a column is filled."""

    cells: list[str] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    def hear(self, cell: Value, vector: np.ndarray) -> None:
        if cell is not None and str(cell).strip():
            self.cells.append(str(cell).strip())
            self.vectors.append(vector)

    def stacked(self, dim: int) -> np.ndarray:
        return np.stack(self.vectors) if self.vectors else np.empty((0, dim), np.float32)

    def truth(self, labels: LabelSet) -> Sequence[str | None] | Sequence[Sequence[str]]:
        if labels.mode == "one":
            return self.cells
        known = {name.casefold() for name in labels.label_names}
        return [_parts(cell, known) for cell in self.cells]


def _parts(cell: str, known: set[str]) -> list[str]:
    """The labels in a cell; a known label with a comma in it stays whole."""
    if cell.casefold() in known:
        return [cell]
    for sign in OTHER_SIGNS:
        cell = cell.replace(sign, SEVERAL_SIGN)
    return [part.strip() for part in cell.split(SEVERAL_SIGN) if part.strip()]


def _encoded_products(
    catalog: Catalog, model: FashionCLIP, *, batch_size: int, workers: int | None
) -> Iterator[tuple[Product, np.ndarray] | Reject]:
    """A catalogue's rows in order, each product with its picture's vector."""
    waiting: deque[Product | Reject] = deque()

    def pictures() -> Iterator[ImageSource]:
        for item in catalog:
            if isinstance(item, Product) and item.image is None:
                item = Reject(item.row, item.product_id, None, "the row names no picture")
            waiting.append(item)
            if isinstance(item, Product) and item.image is not None:
                yield item.image

    vectors = model.iter_images(
        pictures(), batch_size=batch_size, workers=workers, policy=catalog.policy
    )
    for vector in vectors:
        yield from _rejects_before(waiting)
        product = waiting.popleft()
        if isinstance(product, Product):
            yield _with_vector(product, vector)
    yield from _rejects_before(waiting)


def _rejects_before(waiting: deque[Product | Reject]) -> Iterator[Reject]:
    while waiting and isinstance(first := waiting[0], Reject):
        waiting.popleft()
        yield first


def _with_vector(
    product: Product, vector: np.ndarray | FashionCLIPError
) -> tuple[Product, np.ndarray] | Reject:
    if isinstance(vector, FashionCLIPError):
        image = product.image if isinstance(product.image, str) else None
        return Reject(product.row, product.product_id, image, str(vector))
    return product, vector


def _fields(tag: Tag) -> Mapping[str, object]:
    name = tag.set_name
    if tag.mode == "several":
        label: object = list(tag.labels)
        probability: object = list(tag.probabilities)
    else:
        label = tag.text
        probability = tag.probabilities[-1] if tag.labels else tag.nearest_probability
    return {name: label, f"{name}_probability": probability, f"{name}_margin": tag.margin}
