"""Writing to a Lance table: each call is one version of it, or several that belong together."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from fashionclip.product import Kind, Product, Roles
from fashionclip.store.fulltext import text_columns
from fashionclip.store.lance import schema, upkeep, upkeep_process, words
from fashionclip.store.lance.faults import reported, tried_again
from fashionclip.store.lance.schema import batched
from fashionclip.store.lance.table import ROLES_KEY, THRESHOLD_KEY
from fashionclip.store.rows import check_batch, kinds_of, narrowed_by, widened_by

if TYPE_CHECKING:
    from fashionclip.store.lance.store import LanceStore


class LanceWriter:
    """The one writer of a store; see ``Writer``."""

    def __init__(self, store: "LanceStore") -> None:
        """Write to a store whose lock is held."""
        self._store = store
        self._uri = store.uri

    @tried_again
    def upsert(
        self,
        products: Sequence[Product],
        vectors: Float32[np.ndarray, "n dim"],
        content_keys: Sequence[bytes],
    ) -> None:
        """Store products, replacing those of the same ids; all or nothing."""
        meta = self._store.meta
        check_batch(products, vectors, content_keys, dim=meta.dim, model=meta.model, uri=meta.uri)
        if not products:
            return
        self.set_columns(kinds_of(products))
        table = self._store.for_writing()
        batch = schema.to_table(products, vectors, content_keys, table.schema, meta.roles)
        with reported(self._uri):
            merge = table.merge_insert(schema.ID)
            merge.when_matched_update_all().when_not_matched_insert_all().execute(batch)

    @tried_again
    def delete(self, product_ids: Iterable[str]) -> int:
        """Delete products; ids that are not stored are ignored. Returns how many were stored."""
        table = self._store.for_writing()
        with reported(self._uri):
            return sum(
                int(table.delete(schema.ids_filter(ids))["num_deleted_rows"])
                for ids in batched(product_ids)
            )

    @tried_again
    def set_columns(self, columns: Mapping[str, Kind], *, narrow: bool = False) -> None:
        """Add columns that are new, widen those that are too narrow, and narrow them if asked.

        Rows written before a kind changed are taken as changed by the next indexing run.
        """
        kinds = self._store.meta.columns
        wider = widened_by(kinds, columns)
        if wider:
            with reported(self._uri):
                upkeep.evolve(self._store.for_writing(), wider)
        narrower = narrowed_by(kinds, columns) if narrow else {}
        if narrower:
            with reported(self._uri):
                upkeep.narrow(self._store.for_writing(), narrower)

    @tried_again
    def drop_blank(self, names: Iterable[str]) -> None:
        """Remove those of some columns in which no product has a value."""
        known = self._store.meta.columns
        with reported(self._uri):
            upkeep.drop_blank(self._store.for_writing(), [one for one in names if one in known])

    @tried_again
    def set_roles(self, roles: Roles) -> None:
        """Replace the roles, and the words that follow them."""
        old = self._store.meta.roles
        if roles != old:
            with reported(self._uri):
                table = self._store.for_writing()
                if text_columns(roles) != text_columns(old):
                    words.write_words(table, roles)
                table.update_config({ROLES_KEY: json.dumps(roles.as_dict())})

    @tried_again
    def set_relevance_threshold(self, threshold: float | None) -> None:
        """Replace the relevance threshold."""
        if threshold != self._store.meta.relevance_threshold:
            with reported(self._uri):
                self._store.for_writing().update_config({THRESHOLD_KEY: json.dumps(threshold)})

    @tried_again
    def optimize(self, *, is_finished: bool = True) -> None:
        """Compact the files of many small writes, and bring the search indexes up to date.

        Where the table is large, a process of its own does so, see ``upkeep_process``. Older
        versions are removed, but for those that are being read (``leases``).

        Args:
            is_finished: no more writes are to come, so that the vector index may be built anew.
        """
        with reported(self._uri):
            table = self._store.for_writing()
            work = upkeep.due(table, is_finished=is_finished)
            if work is not None:
                form = self._store.meta.vectors
                table = upkeep_process.optimize(table, self._store.place, form, work)
            with self._store.place.leases.removing() as age:
                upkeep.remove_versions(table, age=age)
