"""Vectors of products as files for other programs: .npz, Parquet, WebDataset tars, in shards.

A shard holds the products of a fixed number of rows, and appears whole. A run that finds shards of
an earlier one takes their vectors for the images whose bytes are the same, so a run that was killed
goes on with the shard that it was at.
"""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from fashionclip.atomic import whole_file
from fashionclip.encoding import EncodedImage, Encoder, encode_products
from fashionclip.images.decode import ImageSource
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Reject
from fashionclip.rejects import RejectsFile, rejects_beside

VECTOR_SUFFIXES = (".npz", ".parquet", ".tar")
"""Formats of vector files; all but the first can be shards."""
SHARD_HEADS = {".parquet": rb"PAR1", ".tar": rb"\d{12}\.json"}
"""How shards begin, as patterns: a tar with the name of its first sample."""
ROWS_PER_GROUP = 1024
"""Vectors of a Parquet row group, and the most that are held before they are written."""


@dataclass(frozen=True, slots=True)
class VectorReport:
    """What ``write_vectors`` wrote."""

    embedded: int
    """Vectors in the files."""
    reused: int
    """Those of them that were taken from shards of an earlier run."""
    rejected: int
    """Lines of the rejects file."""
    paths: tuple[Path, ...]
    """The file, or the shards in their order."""
    rejects_path: Path
    """The rejects (JSON Lines); the file exists only if there are any."""


def write_vectors(
    rows: Iterable[Product | Reject],
    encoder: Encoder,
    path: Path,
    *,
    model: FashionCLIP,
    shard_rows: int | None = None,
    texts: Sequence[str] = (),
    policy: FetchPolicy = DEFAULT_POLICY,
    sources: Callable[[Product], tuple[ImageSource, ...]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VectorReport:
    """Encode the images of products, and write their vectors with ids and content keys.

    Args:
        rows: products and rejects; rejects go to ``NAME.rejects.jsonl`` beside the file.
        encoder: encodes the images.
        path: the file; its suffix, one of ``VECTOR_SUFFIXES``, is its format. With ``shard_rows``
            the files are ``NAME-00000.parquet`` and so on.
        model: whose vectors they are; it encodes the texts.
        shard_rows: rows whose vectors one file takes, rejects included; None for one file.
        texts: to encode too, after the images; they go into one file, not into shards.
        policy: how remote images may be fetched.
        sources: as in ``encode_products``.
        progress: called after each row with the numbers of vectors and rejects so far.

    Raises:
        ValueError: another suffix, shards of a format that has none or with texts, or
            ``shard_rows`` below 1.
        OSError: a file cannot be written, or one that this package did not write, or wrote with
            another ``shard_rows``, has the name of a shard; then nothing is written.
        FashionCLIPError: as the stream and the encoder raise.
    """
    suffix = path.suffix.lower()
    if shard_rows is not None and (shard_rows < 1 or texts):
        wrong = f"shard_rows is {shard_rows}; it must be at least 1"
        message = wrong if shard_rows < 1 else "texts go into one file: leave out shard_rows"
        raise ValueError(message)
    if suffix not in VECTOR_SUFFIXES or (shard_rows and suffix == ".npz"):
        suffixes = ", ".join(VECTOR_SUFFIXES[bool(shard_rows) :])
        message = f"'{path}' should end in {suffixes}: that says the format"
        raise ValueError(message)
    stored: dict[str, EncodedImage] = {}
    facts = {"model": model.name, "fingerprint": model.fingerprint}
    if shard_rows:
        facts["shard_rows"] = str(shard_rows)
        _require_shards(path, shard_rows)
        rows = _with_stored(rows, path, shard_rows, model, stored)
    encoded = encode_products(
        rows,
        encoder,
        policy=policy,
        sources=sources,
        stored=lambda product: stored.get(product.product_id),
    )
    embedded = reused = 0
    paths: list[Path] = []
    with RejectsFile(rejects_beside(path), keep_empty=False) as rejects:
        numbered = enumerate(encoded)
        shards = (
            groupby(numbered, key=lambda item: item[0] // shard_rows)
            if shard_rows
            else iter([(0, numbered)])
        )
        for number, items in shards:
            paths.append(_shard_path(path, number) if shard_rows else path)
            with whole_file(paths[-1]) as part, _open_file(part, suffix, model.dim, facts) as write:
                for row, item in items:
                    if isinstance(item, Reject):
                        rejects.add(item)
                    else:
                        write(row, item.product.product_id, item.key, item.vector)
                        embedded += 1
                        reused += item.was_stored
                    if progress is not None:
                        progress(embedded, rejects.count)
                for text, vector in zip(texts, model.encode_text(texts), strict=True):
                    write(embedded + rejects.count, text, None, vector)  # after all rows
                    embedded += 1
    if shard_rows:
        _delete_shards(path, first=len(paths))
    return VectorReport(embedded, reused, rejects.count, tuple(paths), rejects.path)


def _with_stored(
    rows: Iterable[Product | Reject],
    path: Path,
    shard_rows: int,
    model: FashionCLIP,
    stored: dict[str, EncodedImage],
) -> Iterator[Product | Reject]:
    """Pass the rows on; at the first of each shard, ``stored`` becomes that of the earlier run."""
    for i, row in enumerate(rows):
        if i % shard_rows == 0:
            stored.clear()
            stored.update(_read_shard(_shard_path(path, i // shard_rows), model))
        yield row


def _shard_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number:05d}{path.suffix}")


def _require_shards(path: Path, shard_rows: int) -> None:
    """Refuse files at the names of shards that are none: they would be replaced or deleted.

    Shards of another number of rows are refused too: a run that is killed would leave a mixed set.

    Raises:
        FileExistsError: there is one.
    """
    name = re.compile(rf"{re.escape(path.stem)}-\d{{5,}}{re.escape(path.suffix)}")
    for found in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
        if not name.fullmatch(found.name):
            continue
        facts = _facts_of(found)
        if facts is None:
            message = f"{found} is no shard of fashionclip; move it, or choose another name"
            raise FileExistsError(message)
        if (other := facts.get("shard_rows")) not in {None, str(shard_rows)}:
            message = (
                f"{found} is of shards of {other} rows; pass --shard-rows {other} "
                f"(shard_rows={other}), or choose another name"
            )
            raise FileExistsError(message)


def _facts_of(path: Path) -> Mapping[str, str] | None:
    """What a shard says of itself; None for a file that this package did not write.

    It is empty where the shard is damaged, but begins as one, or has no vectors.
    """
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return None
    try:
        return _facts_of_tar(path) if suffix == ".tar" else _facts_of_parquet(path)
    except (OSError, ValueError, EOFError, tarfile.TarError):
        return {} if not head or re.match(SHARD_HEADS[suffix], head) else None


def _facts_of_tar(path: Path) -> Mapping[str, str] | None:
    with tarfile.open(path) as tar:
        member = tar.next()
        if member is None:
            return {}  # of rejects only
        file = tar.extractfile(member) if member.name.endswith(".json") else None
        fields = None if file is None else json.loads(file.read())
        is_ours = isinstance(fields, dict) and {"id", "key", "fingerprint"} <= fields.keys()
        return fields if is_ours else None


def _facts_of_parquet(path: Path) -> Mapping[str, str] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        if schema.names != ["id", "key", "vector"] or b"fingerprint" not in (schema.metadata or {}):
            return None
        id_type, key_type, vector_type = schema.types
        if (id_type, key_type) != (pa.string(), pa.binary()) or not (
            pa.types.is_fixed_size_list(vector_type) and vector_type.value_type == pa.float32()
        ):
            return None
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        columns = [group.column(j) for group in groups for j in (0, 2)]
        if any(one.statistics and one.statistics.null_count for one in columns):
            return None
        return {name.decode(): text.decode() for name, text in schema.metadata.items()}


def _delete_shards(path: Path, *, first: int) -> None:
    """Delete the shards of an earlier, longer run."""
    while (stale := _shard_path(path, first)).exists() and _facts_of(stale) is not None:
        stale.unlink()
        first += 1


Write = Callable[[int, str, bytes | None, Float32[np.ndarray, " dim"]], None]
"""Takes row, id, content key and vector."""


@contextmanager
def _open_file(path: Path, suffix: str, dim: int, facts: Mapping[str, str]) -> Iterator[Write]:
    """Open a file of vectors; gives the function that adds one.

    Args:
        path: the file.
        suffix: its format.
        dim: length of the vectors.
        facts: model, fingerprint, and the rows of a shard.
    """
    if suffix == ".parquet":
        with _open_parquet(path, dim, facts) as write:
            yield write
    elif suffix == ".tar":
        with tarfile.open(path, "w") as tar:

            def write_sample(
                row: int, name: str, key: bytes | None, vector: Float32[np.ndarray, " dim"]
            ) -> None:
                fields = {"id": name, "key": key and key.hex(), **facts}
                array = io.BytesIO()
                np.save(array, vector)
                data = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
                for kind, content in (("json", data), ("npy", array.getvalue())):
                    member = tarfile.TarInfo(f"{row:012d}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))

            yield write_sample
    else:
        ids: list[str] = []
        vectors: list[np.ndarray] = []

        def write_row(
            row: int, name: str, key: bytes | None, vector: Float32[np.ndarray, " dim"]
        ) -> None:
            ids.append(name)
            vectors.append(vector)

        yield write_row
        whole = np.stack(vectors) if vectors else np.empty((0, dim), np.float32)
        arrays: dict[str, Any] = {name: np.array(text) for name, text in facts.items()}
        with path.open("wb") as file:
            np.savez(file, ids=np.array(ids, dtype=np.str_), vectors=whole, **arrays)


@contextmanager
def _open_parquet(path: Path, dim: int, facts: Mapping[str, str]) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vector_type = pa.list_(pa.float32(), dim)
    fields = [("id", pa.string()), ("key", pa.binary()), ("vector", vector_type)]
    schema = pa.schema(fields, metadata=dict(facts))
    rows: list[tuple[str, bytes | None, np.ndarray]] = []

    def write_group() -> None:
        if not rows:
            return
        ids, keys, vectors = zip(*rows, strict=True)
        flat = pa.array(np.stack(vectors).reshape(-1), type=pa.float32())
        columns = [
            pa.array([name.encode("utf-8", "replace") for name in ids]).cast(pa.string()),
            pa.array(keys, pa.binary()),
            pa.FixedSizeListArray.from_arrays(flat, dim),
        ]
        writer.write_table(pa.table(columns, schema=schema))
        rows.clear()

    def write_row(
        row: int, name: str, key: bytes | None, vector: Float32[np.ndarray, " dim"]
    ) -> None:
        rows.append((name, key, vector))
        if len(rows) == ROWS_PER_GROUP:
            write_group()

    with pq.ParquetWriter(path, schema) as writer:
        yield write_row
        write_group()


def _read_shard(path: Path, model: FashionCLIP) -> dict[str, EncodedImage]:
    """The vectors of an earlier run's shard by id; none if it is another model's or cannot be read.

    A shard that is not used is written anew, so nothing is lost.
    """
    if not path.exists():
        return {}
    try:
        samples = _read_tar(path) if path.suffix.lower() == ".tar" else _read_parquet(path)
        return {
            name: EncodedImage(key, vector)
            for name, key, fingerprint, vector in samples
            if key and fingerprint == model.fingerprint and vector.shape == (model.dim,)
        }
    except (OSError, ValueError, KeyError, TypeError, EOFError, tarfile.TarError):
        return {}


Sample = tuple[str, bytes, str, np.ndarray]
"""Id, content key, fingerprint of the model, vector."""


def _read_tar(path: Path) -> Iterator[Sample]:
    with tarfile.open(path) as tar:
        fields: dict[str, str] = {}
        for member in tar:
            file = tar.extractfile(member)
            data = b"" if file is None else file.read()
            if member.name.endswith(".json"):
                fields = json.loads(data)
            else:
                vector = np.load(io.BytesIO(data), allow_pickle=False)
                key = bytes.fromhex(fields["key"] or "")
                yield fields["id"], key, fields["fingerprint"], vector


def _read_parquet(path: Path) -> Iterator[Sample]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)  # pyarrow's errors are OSError and ValueError
    fingerprint = (table.schema.metadata or {}).get(b"fingerprint", b"").decode()
    vectors = table["vector"].combine_chunks()
    array = vectors.flatten().to_numpy().reshape(len(table), -1)
    for name, key, vector in zip(
        table["id"].to_pylist(), table["key"].to_pylist(), array, strict=True
    ):
        yield name, key or b"", fingerprint, vector
