"""The embedded store: one LanceDB table in the index folder.

Below ``upkeep.APPROXIMATE_FROM`` products every vector is compared (exact); above it those of the
cells next to the query are, always by their exact vectors. LanceDB does not notice
flipped bytes, so each row carries checksums that ``verify`` recomputes. ``import lancedb``
costs half a second, so it happens when an index is opened, not when this room is imported.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32

from fashionclip.errors import ModelMismatchError, ProductNotFoundError, StoreError
from fashionclip.index import cells, opening, rows, upkeep
from fashionclip.index.columns import (
    clean_text,
    kinds_of,
    stored_name,
    widened_by,
)
from fashionclip.index.faults import reported
from fashionclip.index.folder import (
    LOCK_TIMEOUT_S,
    MANIFEST_NAME,
    Manifest,
    WriterLock,
)
from fashionclip.index.known import Known
from fashionclip.index.queries import LanceQuery, LanceTable, Queries, batched, check_k, hit
from fashionclip.index.store import IndexInfo, VerifyReport
from fashionclip.product import Hit, Kind, Product

PLAIN_K = 1_000  # up to here k costs nothing, however few products there are


class Index:
    """Vectors and products of one model in a folder; see :class:`fashionclip.index.Store`."""

    def __init__(self, path: Path, manifest: Manifest, table: LanceTable) -> None:
        """Hold an open table; use :meth:`open`, :meth:`create` or :meth:`open_or_create`."""
        self.path = path
        self.manifest = manifest
        self._table = table
        self.queries = Queries(path, table)
        """Reads the table; ``snapshot.read`` takes them."""
        self._lock = WriterLock(path)
        self._crowds = cells.Crowds(table)

    @classmethod
    def open(cls, path: str | Path) -> "Index":
        """Open an index that exists.

        Raises:
            StoreError: it is not there, or a newer fashionclip wrote it.
            StoreCorruptError: it is damaged.
        """
        folder = Path(path)
        return cls(folder, *opening.open_folder(folder))

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        model: str,
        fingerprint: str,
        dim: int,
        columns: Mapping[str, Kind] | None = None,
    ) -> "Index":
        """Make an empty index in a folder that is empty or not there yet.

        Args:
            path: the index folder.
            model: the model's name, for messages.
            fingerprint: the model's digest.
            dim: length of a vector.
            columns: the catalogue's columns; more may come later.

        Raises:
            StoreError: there is an index already, other files are in the way, or the folder
                cannot be written.
        """
        folder = Path(path)
        manifest = Manifest.fresh(model=model, fingerprint=fingerprint, dim=dim)
        return cls(folder, manifest, opening.make_folder(folder, manifest, columns or {}))

    @classmethod
    def open_or_create(
        cls,
        path: str | Path,
        *,
        model: str,
        fingerprint: str,
        dim: int,
        columns: Mapping[str, Kind] | None = None,
    ) -> "Index":
        """Open the index for a model, making it if the folder holds none.

        Raises:
            ModelMismatchError: it holds another model's vectors.
            StoreError: as for :meth:`open` and :meth:`create`.
        """
        if not (Path(path) / MANIFEST_NAME).exists():
            try:
                return cls.create(
                    path, model=model, fingerprint=fingerprint, dim=dim, columns=columns
                )
            except StoreError:
                if not (Path(path) / MANIFEST_NAME).exists():  # no one else made it meanwhile
                    raise
        index = cls.open(path)
        index.require_model(model, fingerprint)
        return index

    def require_model(self, model: str, fingerprint: str) -> None:
        """Refuse to go on with another model than the one that made this index.

        Raises:
            ModelMismatchError: the fingerprints differ; names both models.
        """
        if fingerprint == self.manifest.fingerprint:
            return
        message = (
            f"the index {self.path} holds vectors of the model {self.manifest.model!r} "
            f"({self.manifest.fingerprint[:8]}), not of {model!r} ({fingerprint[:8]}): "
            "use that model, or index the catalogue into another folder"
        )
        raise ModelMismatchError(message)

    # reading

    @property
    def count(self) -> int:
        """Products stored."""
        with reported(self.path):
            return int(self._table.count_rows())

    @property
    def columns(self) -> dict[str, Kind]:
        """The catalogue's columns and what they hold."""
        with reported(self.path):
            return rows.kinds(self._table.schema)

    def info(self) -> IndexInfo:
        """The index in figures."""
        files = (file for file in self.path.rglob("*") if file.is_file())
        return IndexInfo(
            path=self.path,
            manifest=self.manifest,
            count=self.count,
            columns=self.columns,
            size_bytes=sum(file.stat().st_size for file in files),
            is_approximate=cells.vector_index(self._table) is not None,
        )

    def nearest(
        self,
        vector: Float[np.ndarray, " dim"],
        *,
        k: int = 10,
        where: str | None = None,
        exact: bool | None = None,
    ) -> list[Hit]:
        """The k products closest to a vector, closest first.

        Args:
            vector: the query; any length but zero.
            k: hits wanted, at least 1; more than there are gives all there are.
            where: SQL over the catalogue's columns; applied before the vectors are compared.
            exact: True compares every vector; by default only where no approximate index is.

        Returns:
            Hits whose score is the cosine, in -1…1; equal scores in the order of their ids.

        Raises:
            ValueError: k is below 1; the vector is zero or not finite.
            ModelMismatchError: the vector has not this index's length.
            FilterError: the filter does not fit the columns.
            StoreCorruptError: the files are damaged.
        """
        check_k(k)
        self._check_dim(vector.shape[0])
        query = rows.unit(vector)
        k = self._at_most_all(k)

        def passing() -> int:
            return self.count if where is None else self.queries.count(where)

        def candidates(limit: int) -> LanceQuery:
            search = self._table.search(query, vector_column_name=rows.VECTOR)
            search = search.distance_type("dot").limit(limit)
            if exact:
                return search.bypass_vector_index()
            return search.nprobes(self._crowds.to_look_into(k, where, passing))

        def cosine(distance: float) -> float:
            return min(1.0, max(-1.0, 1.0 - distance))

        def read(query: LanceQuery) -> pa.Table:
            return query.to_batches().read_all()  # to_arrow() asks for the schema twice more

        return self.queries.best(candidates, k, where, measure="_distance", score=cosine, read=read)

    def text_search(self, words: str, *, k: int = 10, where: str | None = None) -> list[Hit]:
        """The k products whose captions match some words best, best first.

        Args:
            words: any text; it has no syntax of its own.
            k: hits wanted, at least 1.
            where: SQL over the catalogue's columns.

        Returns:
            Hits whose score is BM25: 0 or more, without an upper bound.

        Raises:
            ValueError: k is below 1.
            FilterError: the filter does not fit the columns.
            StoreCorruptError: the files are damaged.
        """
        from lancedb.query import MatchQuery

        check_k(k)
        k = self._at_most_all(k)
        match = MatchQuery(clean_text(words), rows.CAPTION)  # type: ignore[call-arg]  # has defaults

        def candidates(limit: int) -> LanceQuery:
            return self._table.search(match, query_type="fts").limit(limit)

        def read(query: LanceQuery) -> pa.Table:
            return query.to_arrow()

        return self.queries.best(candidates, k, where, measure="_score", score=float, read=read)

    def get(self, product_id: str) -> tuple[Float32[np.ndarray, " dim"], Hit]:
        """One product's vector, and the product with a score of 1.

        Raises:
            ProductNotFoundError: no product has this id; the message names those with similar ones.
            StoreCorruptError: the files are damaged.
        """
        names = [rows.ID, rows.VECTOR, *map(stored_name, self.columns)]
        for batch in self.queries.rows_of([product_id], names):
            if batch.num_rows:
                fields = batch.drop_columns([rows.VECTOR]).slice(0, 1).to_pylist()[0]
                return rows.vectors(batch)[0].copy(), hit(fields, 1.0)
        alike = self.queries.similar_ids(product_id)
        hint = f"; similar ids: {', '.join(alike)}" if alike else ""
        message = f"the index {self.path} has no product {product_id!r}{hint}"
        raise ProductNotFoundError(message)

    def vectors(self, product_ids: Sequence[str]) -> dict[str, Float32[np.ndarray, " dim"]]:
        """The vectors of those of the products that are stored and whole."""
        found: dict[str, Float32[np.ndarray, " dim"]] = {}
        for batch in self.queries.rows_of(product_ids, [rows.ID, rows.VECTOR, rows.CRC]):
            ids = batch.column(rows.ID).to_pylist()
            sums = batch.column(rows.CRC).to_pylist()
            for name, vector, stored in zip(ids, rows.vectors(batch), sums, strict=True):
                if rows.checksum(name, vector) == stored:
                    found[name] = vector.copy()
        return found

    def locations(self, product_ids: Sequence[str]) -> dict[str, str | None]:
        """Where the products' pictures are; None where that was not said."""
        found: dict[str, str | None] = {}
        for batch in self.queries.rows_of(product_ids, [rows.ID, rows.IMAGE]):
            columns = (batch.column(name).to_pylist() for name in (rows.ID, rows.IMAGE))
            found.update(zip(*columns, strict=True))
        return found

    def iter_ids(self) -> Iterator[str]:
        """Every product id, in no particular order."""
        for batch in self.queries.scan([rows.ID]):
            yield from batch.column(rows.ID).to_pylist()

    def known(self) -> Known:
        """What is stored already, compactly."""
        names = [rows.ID, rows.KEY, rows.ROW]
        return Known(
            entry
            for batch in self.queries.scan(names)
            for entry in zip(*(batch.column(name).to_pylist() for name in names), strict=True)
        )

    # writing

    @contextmanager
    def writing(
        self,
        *,
        timeout_s: float = LOCK_TIMEOUT_S,
        on_wait: Callable[[str], None] | None = None,
    ) -> Iterator[None]:
        """Be the only writer while the block runs; each single write does this by itself.

        Args:
            timeout_s: how long to wait for another writer; negative waits without end.
            on_wait: called once, with who is writing, if there is a wait.

        Raises:
            StoreLockedError: another run is still writing after the wait.
            StoreError: the folder cannot be written to.
        """
        with self._lock.held(timeout_s=timeout_s, on_wait=on_wait):
            yield

    def ensure_columns(self, wanted: Mapping[str, Kind]) -> None:
        """Add columns that are new and widen those that are too narrow.

        Rows written before a column was widened are taken as changed by the next run.

        Raises:
            StoreError: the folder cannot be written to; StoreLockedError, StoreCorruptError.
        """
        if not widened_by(self.columns, wanted):
            return
        with self.writing(), reported(self.path):
            upkeep.evolve(self._table, widened_by(rows.kinds(self._table.schema), wanted))

    def upsert(
        self,
        products: Sequence[Product],
        vectors: Float32[np.ndarray, "n dim"],
        keys: Sequence[bytes],
    ) -> None:
        """Store products with their vectors, replacing what has their ids; all or nothing.

        Args:
            products: n products; of several with one id the last counts.
            vectors: their unit vectors.
            keys: 16 bytes each that stand for the content a vector was made from.

        Raises:
            ValueError: the three differ in length; a vector is not finite or not of unit
                length; a key is not 16 bytes long.
            ModelMismatchError: the vectors have not this index's length.
            StoreError: the disk is full or cannot be written; StoreLockedError.
        """
        if not len(products) == len(vectors) == len(keys):
            message = f"{len(products)} products, {len(vectors)} vectors, {len(keys)} keys"
            raise ValueError(message)
        if not products:
            return
        self._check_dim(vectors.shape[1])
        rows.check_vectors(vectors)
        self.ensure_columns(kinds_of(products))
        with self.writing():
            with reported(self.path):
                schema = self._table.schema
            batch = rows.batch(products, vectors, keys, schema)
            with reported(self.path):
                merge = self._table.merge_insert(rows.ID)
                merge.when_matched_update_all().when_not_matched_insert_all().execute(batch)

    def remove(self, product_ids: Iterable[str]) -> None:
        """Take products out; ids that are not stored are passed over.

        Raises:
            StoreError: the folder cannot be written to; StoreLockedError, StoreCorruptError.
        """
        with self.writing(), reported(self.path):
            for ids in batched(product_ids):
                self._table.delete(rows.ids_filter(ids))

    def optimize(self, *, finished: bool = True) -> None:
        """Compact the files of many small writes, and bring the search indexes up to date.

        Versions younger than an hour stay, so that no reader loses what it is reading.

        Args:
            finished: no more products are about to come, so that it is worth sorting their vectors
                anew.

        Raises:
            StoreError: the folder cannot be written to; StoreLockedError, StoreCorruptError.
        """
        with self.writing(), reported(self.path):
            upkeep.optimize(self._table, finished=finished)

    def verify(self, *, mend: bool = False) -> VerifyReport:
        """Compare every row with the checksums written beside it, in a stream.

        Args:
            mend: take the bad rows out and build the search indexes anew; the next indexing
                run embeds those products again.

        Raises:
            StoreCorruptError: the files cannot even be read.
        """
        checked, bad = 0, []
        kinds = self.columns
        for batch in self.queries.scan(None):
            checked += batch.num_rows
            bad += rows.damaged(batch, kinds)
        removed = 0
        if mend:
            with self.writing():
                self.remove(bad)
                removed = len(bad)
                with reported(self.path):
                    upkeep.rebuild(self._table)
        return VerifyReport(checked=checked, bad=tuple(bad), removed=removed)

    # within

    def _check_dim(self, dim: int) -> None:
        if dim != self.manifest.dim:
            message = (
                f"the index {self.path} holds vectors of {self.manifest.dim} numbers, made by "
                f"{self.manifest.model!r}; these have {dim}: use that model"
            )
            raise ModelMismatchError(message)

    def _at_most_all(self, k: int) -> int:
        return k if k <= PLAIN_K else max(1, min(k, self.count))
