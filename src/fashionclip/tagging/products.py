"""Tags for whole catalogues and indexes as a stream, and their table with rejects beside it."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from fashionclip.atomic import whole_file
from fashionclip.catalog import Catalog
from fashionclip.encoding import Encoder, encode_products, local_encoder
from fashionclip.errors import LabelError
from fashionclip.model import FashionCLIP
from fashionclip.product import Reject
from fashionclip.rejects import RejectsFile, rejects_beside
from fashionclip.store import Store, require_model
from fashionclip.tagging.calibration import calibrate
from fashionclip.tagging.labels import SEVERAL_SEPARATOR, LabelSet
from fashionclip.tagging.scoring import Tag, Tagger

PRODUCTS_PER_BATCH = 256  # tagged at once; comparing with labels costs little beside encoding
OTHER_SEPARATORS = ",;"  # also accepted between the labels of a product in one cell
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
"""Formats of a table of tags."""
ROWS_PER_GROUP = 4096  # of a Parquet file; bounds memory
PROBABILITY_DIGITS = 6

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TaggedProduct:
    """A product with one tag per label set."""

    product_id: str
    """The shop's identifier."""
    row: int | None
    """Row of the catalogue; None for products of an index."""
    tags: tuple[Tag, ...]
    """The tags, in the order of the label sets."""

    def as_row(self) -> dict[str, object]:
        """The product as a row of a table: ``id``, and three columns per label set.

        ``NAME`` is the label, a path such as ``Clothing > Tops``, or ``none of these``; for
        ``several`` it is a list. ``NAME_probability`` is its probability (for none of these, that
        of the most probable label), a list for ``several``. ``NAME_margin``: see ``Tag``.
        """
        fields: dict[str, object] = {"id": self.product_id}
        for tag in self.tags:
            label: object = tag.text
            probability: object = tag.nearest_probability
            if tag.mode == "several":
                label, probability = list(tag.labels), list(tag.probabilities)
            elif tag.labels:
                probability = tag.probabilities[-1]
            columns = _set_columns(tag.set_name)
            fields.update(zip(columns, (label, probability, tag.margin), strict=True))
        return fields


@dataclass(frozen=True, slots=True)
class TagReport:
    """What ``write_tags`` wrote."""

    tagged: int
    """Rows of the table."""
    rejected: int
    """Lines of the rejects file."""
    path: Path
    """The table."""
    rejects_path: Path
    """The rejects (JSON Lines); the file exists only if there are any."""


def tag_catalog(
    catalog: Catalog,
    model: FashionCLIP,
    label_sets: Sequence[LabelSet],
    *,
    batch_size: int = 32,
    workers: int | None = None,
    encoder: Encoder | None = None,
) -> Iterator[TaggedProduct | Reject]:
    """Tag the products of a catalogue by their images.

    Streams: memory does not grow with the catalogue. A row or image that cannot be used becomes
    a ``Reject`` in its place.

    Args:
        catalog: the products.
        model: encodes images and labels.
        label_sets: the labels to choose from.
        batch_size: images the model takes at once.
        workers: threads that decode images; None for one per core.
        encoder: who reads and encodes the images; None for this process.

    Yields:
        For each row, in the catalogue's order, the tagged product or a reject.

    Raises:
        LabelError: no label sets, or one was calibrated for another model.
        CatalogError: the catalogue cannot be read.
        ValueError: ``batch_size`` is below 1.
    """
    tagger = Tagger(model, label_sets)
    encoded = encode_products(
        catalog,
        encoder or local_encoder(model, batch_size=batch_size, workers=workers),
        policy=catalog.policy,
        sources=catalog.image_sources,
    )
    while batch := list(islice(encoded, PRODUCTS_PER_BATCH)):
        vectors = [item.vector for item in batch if not isinstance(item, Reject)]
        tags = iter(tagger.tag(np.stack(vectors)) if vectors else ())
        for item in batch:
            if isinstance(item, Reject):
                yield item
            else:
                product = item.product
                yield TaggedProduct(product.product_id, product.row, next(tags))


def tag_index(
    store: Store, model: FashionCLIP, label_sets: Sequence[LabelSet]
) -> Iterator[TaggedProduct | Reject]:
    """Tag the products of an index by their stored vectors; no image is read.

    Args:
        store: made by the same model.
        model: encodes the labels.
        label_sets: the labels to choose from.

    Yields:
        Each product; at the end, a reject for each whose stored vector is damaged.

    Raises:
        ModelMismatchError: the store holds another model's vectors.
        LabelError: no label sets, or one was calibrated for another model.
        StoreCorruptError: the files are damaged.
    """
    require_model(store, model=model.name, fingerprint=model.fingerprint)
    tagger = Tagger(model, label_sets)
    n_tagged = 0
    for rows in store.scan(columns=False):
        if rows.vectors is None or not rows.ids:
            continue
        for product_id, tags in zip(rows.ids, tagger.tag(rows.vectors), strict=True):
            yield TaggedProduct(product_id, None, tags)
        n_tagged += len(rows.ids)
    if n_tagged < len(store):
        for product_id in _damaged_ids(store):
            reason = "its stored vector is damaged: fashionclip index --verify STORE --mend"
            yield Reject(None, product_id, None, reason)


def _damaged_ids(store: Store) -> Iterator[str]:
    """The products whose vector a store does not hand out."""
    for rows in store.scan(vectors=False, columns=False):
        whole = set(store.fetch(rows.ids, columns=False).ids)
        yield from (product_id for product_id in rows.ids if product_id not in whole)


def write_tags(
    items: Iterable[TaggedProduct | Reject],
    path: str | Path,
    *,
    label_sets: Sequence[LabelSet],
) -> TagReport:
    """Write a stream of tags as a table, and its rejects as ``NAME.rejects.jsonl`` beside it.

    Columns are those of ``TaggedProduct.as_row``. Lists are lists in JSON and Parquet, and joined
    with ``|`` in CSV. A run that fails leaves the files that were there before.

    Args:
        items: from ``tag_catalog`` or ``tag_index``.
        path: the table; its suffix (``.csv``, ``.jsonl`` or ``.parquet``) is its format.
        label_sets: the label sets of the tags.

    Raises:
        ValueError: another suffix.
        OSError: the file cannot be written.
        FashionCLIPError: as the stream raises.
    """
    path = Path(path)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        message = f"'{path}' should end in {', '.join(TABLE_SUFFIXES)}: that says the format"
        raise ValueError(message)
    tagged = 0
    with (
        whole_file(path) as part,
        RejectsFile(rejects_beside(path), keep_empty=False) as rejects,
        _open_table(part, path.suffix.lower(), label_sets) as write_row,
    ):
        for item in items:
            if isinstance(item, Reject):
                rejects.add(item)
            else:
                write_row(item.as_row())
                tagged += 1
    return TagReport(tagged, rejects.count, path, rejects.path)


def calibrate_on_catalog(
    catalog: Catalog,
    model: FashionCLIP,
    label_sets: Sequence[LabelSet],
    *,
    columns: Mapping[str, str] | None = None,
    precision: float = 0.9,
    batch_size: int = 32,
    workers: int | None = None,
    encoder: Encoder | None = None,
) -> list[LabelSet]:
    """Calibrate label sets on a catalogue whose columns hold some products' labels.

    Args:
        catalog: the labelled products. An empty cell leaves its product out; ``none of these``
            means that no label fits. The labels of ``several`` are split at ``|,;``.
        model: encodes images and labels.
        label_sets: what to calibrate; a set without a column stays as it is.
        columns: the column of each set, where it does not have the set's name.
        precision: as ``calibrate``.
        batch_size: images the model takes at once.
        workers: threads that decode images; None for one per core.
        encoder: who reads and encodes the images; None for this process.

    Raises:
        LabelError: no set has a column, a cell holds a label that its set does not have, or no
            product is labelled.
        CatalogError: the catalogue cannot be read.
        ValueError: as ``calibrate``.
    """
    wanted = {labels.name: (columns or {}).get(labels.name, labels.name) for labels in label_sets}
    found = {name: column for name, column in wanted.items() if column in catalog.columns}
    if not found or set(columns or {}) - set(found):
        message = (
            f"the catalogue has no column {', '.join(sorted(set(wanted.values())))} to calibrate "
            f"with: it has {', '.join(catalog.columns)}"
        )
        raise LabelError(message)
    cells: dict[str, list[str]] = {name: [] for name in found}
    vectors: dict[str, list[np.ndarray]] = {name: [] for name in found}
    encoded = encode_products(
        catalog,
        encoder or local_encoder(model, batch_size=batch_size, workers=workers),
        policy=catalog.policy,
        sources=catalog.image_sources,
    )
    for item in encoded:
        if isinstance(item, Reject):
            continue
        for name, column in found.items():
            cell = item.product.columns.get(column)
            if cell is not None and str(cell).strip():
                cells[name].append(str(cell).strip())
                vectors[name].append(item.vector)

    def calibrated(labels: LabelSet) -> LabelSet:
        name, truth = labels.name, cells[labels.name]
        known = {label.casefold() for label in labels.label_names}
        return calibrate(
            labels,
            model,
            np.stack(vectors[name]) if truth else np.empty((0, model.dim), np.float32),
            truth if labels.mode == "one" else [_split_labels(cell, known) for cell in truth],
            precision=precision,
        )

    return [calibrated(labels) if labels.name in found else labels for labels in label_sets]


def _split_labels(cell: str, known: set[str]) -> list[str]:
    """The labels in a cell; a known label with a comma in it stays whole."""
    if cell.casefold() in known:
        return [cell]
    for separator in OTHER_SEPARATORS:
        cell = cell.replace(separator, SEVERAL_SEPARATOR)
    return [part.strip() for part in cell.split(SEVERAL_SEPARATOR) if part.strip()]


@contextmanager
def _open_table(
    path: Path, suffix: str, label_sets: Sequence[LabelSet]
) -> Iterator[Callable[[Row], None]]:
    """Open a table of tags; gives the function that writes a row."""
    if suffix == ".parquet":
        with _open_parquet(path, label_sets) as write_row:
            yield write_row
        return
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        if suffix == ".jsonl":

            def write_json(row: Row) -> None:
                fields = {name: _rounded(value) for name, value in row.items()}
                file.write(json.dumps(fields, ensure_ascii=False) + "\n")

            yield write_json
            return
        table = csv.writer(file)
        names = [name for labels in label_sets for name in _set_columns(labels.name)]
        table.writerow(["id", *names])
        yield lambda row: table.writerow([_csv_cell(_rounded(value)) for value in row.values()])


@contextmanager
def _open_parquet(path: Path, label_sets: Sequence[LabelSet]) -> Iterator[Callable[[Row], None]]:
    import pyarrow as pa  # not needed for text
    import pyarrow.parquet as pq

    fields = [("id", pa.string())]
    for labels in label_sets:
        text, number = pa.string(), pa.float64()
        if labels.mode == "several":
            text, number = pa.list_(text), pa.list_(number)
        fields += zip(_set_columns(labels.name), (text, number, pa.float64()), strict=True)
    schema = pa.schema(fields)
    rows: list[Row] = []

    def write_group() -> None:
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

    def write_row(row: Row) -> None:
        rows.append(row)
        if len(rows) >= ROWS_PER_GROUP:
            write_group()

    with pq.ParquetWriter(path, schema) as writer:
        yield write_row
        write_group()


def _set_columns(name: str) -> tuple[str, str, str]:
    return name, f"{name}_probability", f"{name}_margin"


def _rounded(value: object) -> object:
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, PROBABILITY_DIGITS) if isinstance(value, float) else value


def _csv_cell(value: object) -> object:
    return SEVERAL_SEPARATOR.join(map(str, value)) if isinstance(value, list) else value
