"""A Lance table as a whole: opened, made, brought from an older format; its configuration."""

import json
from collections.abc import Mapping
from typing import Any

import lance
import pyarrow as pa

from fashionclip.product import Roles
from fashionclip.store.base import StoreMeta
from fashionclip.store.lance import schema, upkeep, words
from fashionclip.store.lance.faults import reported, tried_again
from fashionclip.store.lance.place import Place

ROLES_KEY = "fashionclip.roles"  # in the table's configuration
THRESHOLD_KEY = "fashionclip.relevance_threshold"
INDEX_CACHE_BYTES = 2 << 30
METADATA_CACHE_BYTES = 256 << 20
READ_AHEAD_BYTES = 32 << 20  # by default Lance reads 2 GB ahead

Dataset = Any  # what Lance's own type lacks annotations for


@tried_again
def open_table(place: Place) -> Dataset:
    """Lance's table of a place that holds a store.

    Raises:
        StoreError: it cannot be read; StoreCorruptError, if it is damaged.
    """
    with reported(place.uri):
        return read_table(place.table_uri, place.storage_options)


def read_table(
    uri: str, storage_options: Mapping[str, str], *, version: int | None = None
) -> Dataset:
    """Lance's table at an address, with bounds on its memory.

    Args:
        uri: the table's, not the store's.
        storage_options: as Lance takes them.
        version: which one; None for the newest.

    Raises:
        OSError: Lance cannot read it.
        ValueError: there is no table.
    """
    return lance.dataset(
        uri,
        version,
        storage_options=dict(storage_options),
        index_cache_size_bytes=INDEX_CACHE_BYTES,
        metadata_cache_size_bytes=METADATA_CACHE_BYTES,
        default_scan_options={"io_buffer_size": READ_AHEAD_BYTES},  # type: ignore[dict-item]
    )


@tried_again
def create_table(place: Place, meta: StoreMeta) -> None:
    """Make an empty table, with its full-text index.

    Raises:
        StoreError: it cannot be written.
    """
    empty = schema.table_schema(meta.dim, meta.columns, meta.vectors).empty_table()
    with reported(place.uri):
        table = _write_empty(empty, place)
        words.index_words(table)
        upkeep.index_ids(table)
        table.update_config({ROLES_KEY: json.dumps(meta.roles.as_dict())})


def _write_empty(empty: pa.Table, place: Place) -> Dataset:
    options = place.storage_options
    try:
        return lance.write_dataset(empty, place.table_uri, storage_options=options)
    except OSError:  # the rest of a killed run, which a list of objects did not show
        return lance.write_dataset(
            empty, place.table_uri, mode="overwrite", storage_options=options
        )


def upgrade_table(place: Place) -> None:
    """Give the table of an older format the words that its products are found by.

    Raises:
        StoreError: it cannot be read or written.
    """
    table = open_table(place)
    with reported(place.uri):
        words.write_words(table, roles_of(table))
        for index in table.describe_indices():
            if index.field_names == [schema.CAPTION]:  # of format 2
                table.drop_index(index.name)
        upkeep.index_ids(table)


def roles_of(table: Dataset) -> Roles:
    """The roles in a table's configuration."""
    return Roles.from_dict(json.loads(table.config().get(ROLES_KEY, "{}")))


def threshold_of(table: Dataset) -> float | None:
    """The relevance threshold in a table's configuration."""
    threshold: float | None = json.loads(table.config().get(THRESHOLD_KEY, "null"))
    return threshold
