"""A run on disk: written so that a folder is either whole or known to be half written.

Every file appears at once, ``results.json`` last; it holds the digests of the others, so that a
run that was killed while it replaced an older one is not taken for either.
"""

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from fashionclip.atomic import write_whole
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.results import Figure, ModelInfo, Run, TaskResult

FORMAT = 1  # raised when an older fashionclip could not read what a newer one wrote
RESULTS_NAME = "results.json"
PICTURES_NAME = "pictures.json"
ITEMS_NAME = "items"
LONGEST_NAME = 120
"""Characters of a model's or task's name that a file is called by, before a digest takes over."""


def write_run(run: Run, folder: str | Path, pictures: Mapping[str, str]) -> None:
    """Write a run and the pictures its report shows; an older run in the folder is replaced.

    NaN, which JSON has no word for, is written as null and read as NaN where a number belongs.

    Args:
        run: what was measured.
        folder: made if it is missing.
        pictures: data URIs by ``<task>/<picture_id>``.

    Raises:
        EvaluationError: the folder cannot be written.
        ValueError: the columns of a task's items differ in length.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digests = {PICTURES_NAME: _written(folder / PICTURES_NAME, _json(dict(pictures)))}
        for model, results in run.results.items():
            for result in results:
                if result.items:
                    name = _items_name(model, result.task)
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    digests[name] = _written(folder / name, _parquet(result))
        write_whole(folder / RESULTS_NAME, _json(_document(run, digests)))
        for stale in folder.glob(f"{ITEMS_NAME}/*/*.parquet"):
            if stale.relative_to(folder).as_posix() not in digests:
                stale.unlink()
    except OSError as exc:
        message = f"the run folder {folder} cannot be written ({exc.strerror}): choose another"
        raise EvaluationError(message) from exc


def read_run(folder: str | Path) -> Run:
    """Read a run with its items.

    Raises:
        EvaluationError: the folder holds no run, a half-written or damaged one, or one that a newer
            fashionclip wrote.
    """
    folder = Path(folder)
    document = _read_document(folder)
    try:
        digests = document["files"]
        return Run(
            models=tuple(ModelInfo(**fields) for fields in document["models"]),
            results={
                model: tuple(_read_result(folder, model, fields, digests) for fields in results)
                for model, results in document["results"].items()
            },
            missing=document["missing"],
            created=document["created"],
            version=document["version"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise EvaluationError(_damaged(folder / RESULTS_NAME)) from exc


def read_pictures(folder: str | Path) -> dict[str, str]:
    """Read the pictures of a run: data URIs by ``<task>/<picture_id>``.

    Raises:
        EvaluationError: as :func:`read_run`.
    """
    folder = Path(folder)
    try:
        digest = _read_document(folder)["files"][PICTURES_NAME]
        return dict(json.loads(_read_whole(folder / PICTURES_NAME, digest)))
    except (KeyError, TypeError, ValueError) as exc:
        raise EvaluationError(_damaged(folder / PICTURES_NAME)) from exc


def _written(path: Path, data: bytes) -> str:
    """Write a file whole; a digest of it in hex."""
    write_whole(path, data)
    return blake2b(data, digest_size=16).hexdigest()


def _document(run: Run, digests: Mapping[str, str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "created": run.created,
        "version": run.version,
        "models": [_fields(model) for model in run.models],
        "results": {
            model: [{n: v for n, v in _fields(result).items() if n != "items"} for result in some]
            for model, some in run.results.items()
        },
        "missing": run.missing,
        "files": digests,
    }


def _fields(record: ModelInfo | TaskResult | Figure) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _json(value: object) -> bytes:
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "replace")  # half a surrogate pair must not cost a whole run


def _plain(value: object) -> object:
    """The same in what JSON has: null for NaN, lists for tuples, Python's numbers for NumPy's."""
    if isinstance(value, Figure):
        value = _fields(value)
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part) for part in value]
    return value


def _parquet(result: TaskResult) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lengths = {name: len(column) for name, column in result.items.items()}
    if len(set(lengths.values())) > 1:
        message = f"the items of {result.task} have columns of different lengths: {lengths}"
        raise ValueError(message)
    columns = {name: [_cell(v) for v in column] for name, column in result.items.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def _cell(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value


def _items_name(model: str, task: str) -> str:
    return f"{ITEMS_NAME}/{_file_name(model)}/{_file_name(task)}.parquet"


def _file_name(name: str) -> str:
    """One part of a path for any name, and no two names the same one."""
    safe = quote(name, safe=" ", errors="replace")
    safe = "%2E" + safe[1:] if safe.startswith(".") else safe
    if len(safe) <= LONGEST_NAME:
        return safe
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{safe[:LONGEST_NAME]}-{digest}"


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / RESULTS_NAME
    try:
        document = json.loads(path.read_bytes())
        version = int(document["format"])
    except OSError as exc:
        error = _no_run(folder, exc)
        raise error from exc
    except (ValueError, TypeError, KeyError) as exc:
        raise EvaluationError(_damaged(path)) from exc
    if version > FORMAT:
        message = (
            f"the run {folder} has format {version} and this fashionclip reads up to {FORMAT}: "
            "upgrade fashionclip"
        )
        raise EvaluationError(message)
    return dict(document)


def _read_result(
    folder: Path, model: str, fields: dict[str, Any], digests: Mapping[str, str]
) -> TaskResult:
    name = _items_name(model, fields["task"])
    items: Mapping[str, Sequence[Any]] = {}
    if name in digests:
        items = _read_items(folder / name, digests[name])
    figures = {kind: _read_figures(fields[kind]) for kind in ("figures", "unseen")}
    lists = {kind: tuple(fields[kind]) for kind in ("notes", "warnings", "shown")}
    details = _read_details(fields["details"])
    return TaskResult(**{**fields, **figures, **lists, "details": details, "items": items})


def _read_details(value: object) -> object:
    """The same with figures where figures were written."""
    if isinstance(value, dict):
        is_figure = value.keys() == set(Figure.__dataclass_fields__)
        return _figure(value) if is_figure else {k: _read_details(v) for k, v in value.items()}
    return [_read_details(part) for part in value] if isinstance(value, list) else value


def _read_figures(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    return {metric: _figure(fields) for metric, fields in figures.items()}


def _figure(fields: Mapping[str, Any]) -> Figure:
    value, low, high = (
        math.nan if fields[end] is None else fields[end] for end in ("value", "low", "high")
    )
    return Figure(value, low, high, fields["n"])


def _read_items(path: Path, digest: str) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(_read_whole(path, digest)))
    return {name: table[name].to_pylist() for name in table.column_names}


def _read_whole(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as exc:
        message = (
            f"{path} cannot be read ({exc.strerror}): restore it from a copy, or evaluate again"
        )
        raise EvaluationError(message) from exc
    if blake2b(data, digest_size=16).hexdigest() != digest:
        message = (
            f"{path} is not of the run beside it, which was killed while it was written or changed "
            "since: evaluate again into this folder"
        )
        raise EvaluationError(message)
    return data


def _no_run(folder: Path, exc: OSError) -> EvaluationError:
    again = f"evaluate again with: fashionclip evaluate MODEL --on … --out {folder}"
    if folder.is_file():
        return EvaluationError(f"{folder} is a file, not a run folder")
    if not folder.exists():
        return EvaluationError(f"there is no run at {folder}; {again}")
    if (folder / RESULTS_NAME).exists():
        return EvaluationError(f"{folder / RESULTS_NAME} cannot be read: {exc.strerror}")
    if (folder / ITEMS_NAME).exists():
        return EvaluationError(f"the run {folder} is half written; {again}")
    return EvaluationError(f"{folder} is not a run folder: it has no {RESULTS_NAME}; {again}")


def _damaged(path: Path) -> str:
    return f"{path} is damaged: restore it from a copy, or evaluate again"
