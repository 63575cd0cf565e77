"""The results of a run: figures with intervals, and how they lie on disk.

A run folder holds ``results.json`` (everything but the items), ``items/<model>/<task>.parquet``
(the outcome of every image or query, by which ``compare`` pairs two runs), ``report.md`` and
``report.html``.

Every file is replaced whole, ``results.json`` last. It holds digests of the other files, so that a
run that was killed while it replaced an older one is recognised.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from fashionclip.atomic import write_whole
from fashionclip.errors import EvaluationError

Kind = Literal[
    "zero-shot",
    "retrieval",
    "picture-to-picture",
    "probe",
    "wrong-attribute",
    "behavioural-probe",
    "audit",
]

FORMAT = 1
"""Raised when an older fashionclip could not read what a newer one writes."""
RESULTS_NAME = "results.json"
ITEMS_NAME = "items"
MAX_FILE_NAME = 120
"""Characters of a model's or task's name in a file name, before a digest replaces the rest."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number with its uncertainty."""

    value: float
    low: float
    """Lower end of the 95 % bootstrap interval over images or queries."""
    high: float
    n: int
    """How many images or queries it was measured on."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskResult:
    """One model on one task."""

    task: str
    kind: Kind
    headline: str
    """The metric that stands for the task: ``weighted_f1``."""
    n: int
    """Images or queries scored."""
    left_out: int
    """Images or queries that could not be scored; ``warnings`` says why."""
    figures: Mapping[str, Figure]
    """Over everything scored, by metric."""
    n_seen: int = 0
    """Of those scored, how many the leakage check found in the model's training data."""
    unseen: Mapping[str, Figure] = field(default_factory=dict)
    """The same figures without them; empty where nothing was seen, or nothing is left."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values and figures, by kind of task; the scorers' docstrings list them. Of every kind,
    reports show ``chance`` (what chance gives, by metric); of probes and audits also ``groups``
    (figures by heading and name, such as ``{"By size": {"small": figure}}``)."""
    notes: tuple[str, ...] = ()
    """The task's own."""
    warnings: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    """Ids of images that ``details`` names and a report may show."""
    items: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Columns with one value per item: ``item`` (an image's id, or the query), ``seen``, ``truth``
    and ``predicted`` (class names) for classification, and a column of numbers for each metric
    that is a mean over items."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that a run measured."""

    name: str
    fingerprint: str
    dim: int
    engine: str
    """Device and precision: ``cpu bfloat16``."""
    trained_on: str = ""
    """In words, the training data of the leakage check; empty if it is not known."""
    seconds: float = 0.0
    """Time of all tasks."""
    encoding_seconds: float = 0.0
    """Of that, decoding and encoding; little where a cache had the vectors."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Models on tasks, as one command measured them."""

    models: tuple[ModelInfo, ...]
    results: Mapping[str, tuple[TaskResult, ...]]
    """By model name, in the tasks' order."""
    missing: Mapping[str, str]
    """Benchmarks that could not be measured, each with one line on how to get it."""
    created: str
    """ISO date and time, UTC."""
    version: str
    """Of this package."""
    title: str = "Evaluation"
    """Of the report: ``Evaluation``, ``Probes``, ``Audit``."""


def write_run(run: Run, folder: str | Path) -> None:
    """Write a run; an older run in the folder is replaced.

    NaN becomes null in JSON, and is read as NaN again where a number belongs.

    Args:
        run: what was measured.
        folder: made if it is missing.

    Raises:
        EvaluationError: the folder cannot be written.
        ValueError: the columns of a task's items differ in length.
    """
    folder = Path(folder)
    files = {
        _items_name(model, result.task): _parquet(result)
        for model, results in run.results.items()
        for result in results
        if result.items
    }
    document = {
        "format": FORMAT,
        "created": run.created,
        "version": run.version,
        "title": run.title,
        "models": [_fields(model) for model in run.models],
        "results": {
            model: [{n: v for n, v in _fields(result).items() if n != "items"} for result in some]
            for model, some in run.results.items()
        },
        "missing": run.missing,
        "files": {name: _digest(data) for name, data in files.items()},
    }
    try:
        for name, data in {**files, RESULTS_NAME: _json(document)}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, data)
        for stale in folder.glob(f"{ITEMS_NAME}/*/*.parquet"):
            if stale.relative_to(folder).as_posix() not in files:
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
            title=document.get("title", "Evaluation"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise EvaluationError(_damaged(folder / RESULTS_NAME)) from exc


def _fields(record: ModelInfo | TaskResult | Figure) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _json(value: object) -> bytes:
    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "replace")  # half a surrogate pair must not cost a whole run


def _plain(value: object) -> object:
    """The same in JSON's types: null for NaN, lists for tuples, Python's numbers for NumPy's."""
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
    """One part of a path for any name, different for different names."""
    safe = quote(name, safe=" ", errors="replace")
    safe = "%2E" + safe[1:] if safe.startswith(".") else safe
    if len(safe) <= MAX_FILE_NAME:
        return safe
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{safe[:MAX_FILE_NAME]}-{digest}"


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = _items_name(model, fields["task"])
    items: Mapping[str, Sequence[Any]] = {}
    if name in digests:
        table = pq.read_table(pa.BufferReader(_read_checked(folder / name, digests[name])))
        items = {column: table[column].to_pylist() for column in table.column_names}
    figures = {
        kind: {metric: _figure(figure) for metric, figure in fields[kind].items()}
        for kind in ("figures", "unseen")
    }
    lists = {kind: tuple(fields[kind]) for kind in ("notes", "warnings", "shown")}
    details = _read_details(fields["details"])
    return TaskResult(**{**fields, **figures, **lists, "details": details, "items": items})


def _read_details(value: object) -> object:
    """The same with figures where figures were written."""
    if isinstance(value, dict):
        is_figure = value.keys() == set(Figure.__dataclass_fields__)
        return _figure(value) if is_figure else {k: _read_details(v) for k, v in value.items()}
    return [_read_details(part) for part in value] if isinstance(value, list) else value


def _figure(fields: Mapping[str, Any]) -> Figure:
    value, low, high = (
        math.nan if fields[end] is None else fields[end] for end in ("value", "low", "high")
    )
    return Figure(value, low, high, fields["n"])


def _read_checked(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as exc:
        message = (
            f"{path} cannot be read ({exc.strerror}): restore it from a copy, or evaluate again"
        )
        raise EvaluationError(message) from exc
    if _digest(data) != digest:
        message = (
            f"{path} does not belong to the run beside it: the run was killed while it was "
            "written, or the file was changed since; evaluate again into this folder"
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
