"""A run: models on benchmarks, each task scored over vectors that are computed once.

Knows what the kinds of task have in common (pictures, texts, what was seen in training) and which
scorer each goes to; nothing about files of benchmarks, and nothing about pages.
"""

import base64
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from fashionclip.errors import BenchmarkError, EvaluationError, FashionCLIPError, MissingExtraError
from fashionclip.evaluate.benchmarks import find_benchmark, find_folder
from fashionclip.evaluate.embeddings import CachedVectors
from fashionclip.evaluate.leakage import (
    Leakage,
    LeakageCheck,
    TrainingData,
    read_training_data,
)
from fashionclip.evaluate.probe import score_probe
from fashionclip.evaluate.results import ModelInfo, Run, TaskResult
from fashionclip.evaluate.retrieval import score_retrieval
from fashionclip.evaluate.scorecard import score_wrong_attribute
from fashionclip.evaluate.similar import score_similar
from fashionclip.evaluate.tasks import (
    Picture,
    PictureToPicture,
    Probe,
    Retrieval,
    Task,
    WrongAttribute,
    ZeroShot,
)
from fashionclip.evaluate.zero_shot import score_zero_shot
from fashionclip.images.decode import thumbnail
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.model import FashionCLIP

THUMBNAIL_PX = 160
"""Longest side of the pictures that a report shows."""
Watch = Callable[[str, int, int], None]
"""Called with what is being measured, and how many pictures of how many are done."""


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """The tasks of the benchmarks that were found, and those that were not."""

    tasks: tuple[Task, ...]
    missing: Mapping[str, str]
    """Benchmark to one line on how to get it."""
    warnings: Mapping[str, tuple[str, ...]]
    """Task to what was wrong with its benchmark's files."""


def load_benchmarks(names: Sequence[str], data: Path | None) -> Questions:
    """Read benchmarks; one that cannot be had does not keep the others from being measured.

    Args:
        names: names of benchmarks, or paths of tables of one's own.
        data: folder that holds the benchmarks' folders.

    Raises:
        BenchmarkError: an unknown name, two of one name, or not one of them can be had.
    """
    tasks: list[Task] = []
    missing: dict[str, str] = {}
    warnings: dict[str, tuple[str, ...]] = {}
    found = {name: find_benchmark(name) for name in names}  # a slip costs no reading
    for name, benchmark in found.items():
        try:
            loaded = benchmark.load(find_folder(benchmark, data))
        except BenchmarkError as error:
            missing[name] = str(error).removeprefix(f"{name}: ")
            continue
        if twice := {task.name for task in tasks} & {task.name for task in loaded.tasks}:
            message = f"two of the benchmarks are called {min(twice)}; rename one of the tables"
            raise BenchmarkError(message)
        tasks.extend(loaded.tasks)
        warnings |= {task.name: loaded.warnings for task in loaded.tasks}
    if not tasks:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        message = f"nothing to measure: {reasons}"
        raise BenchmarkError(message)
    return Questions(tuple(tasks), missing, warnings)


def evaluate_models(
    models: Iterable[FashionCLIP],
    questions: Questions,
    *,
    cache: Path | None = None,
    prompts: str | None = None,
    trained_on: Sequence[TrainingData] = (),
    policy: FetchPolicy | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> tuple[Run, dict[str, str]]:
    """Measure models on tasks.

    Args:
        models: opened one after the other, if this is a generator.
        questions: what to measure.
        cache: folder for vectors; None keeps nothing.
        prompts: a style of prompts for every zero-shot task; None lets each model choose on the
            task's development pictures.
        trained_on: what the models were trained on, besides what their folders say.
        policy: how remote pictures may be fetched.
        seed: of all that is drawn at random.
        watch: called as pictures get done.

    Returns:
        The run, and the pictures its report shows: data URIs by ``<task>/<picture_id>``.

    Raises:
        EvaluationError: a model gives NaN, two models have one name, or the cache cannot be used.
    """
    infos: list[ModelInfo] = []
    results: dict[str, tuple[TaskResult, ...]] = {}
    missing = dict(questions.missing)
    shown: dict[str, str] = {}
    for model in models:
        begin = time.perf_counter()
        name = _short_name(model)
        if name in results:
            message = f"two of the models are called {name}; rename one of the folders"
            raise EvaluationError(message)
        own = read_training_data(model.checkpoint.folder)
        training = [*([own] if own else []), *trained_on]
        check = LeakageCheck(training, cache, policy=policy) if training else None
        stage = _Stage(name, watch or (lambda what, done, total: None))
        vectors = CachedVectors(model, cache, policy=policy, progress=stage.advance)
        found: list[TaskResult] = []
        for task in questions.tasks:
            stage.start(task)
            try:
                result = _measure(task, vectors, check, prompts=prompts, seed=seed)
            except MissingExtraError as error:
                missing[task.name] = str(error)
                continue
            warnings = (*questions.warnings.get(task.name, ()), *result.warnings)
            found.append(replace(result, warnings=warnings))
            shown |= _thumbnails(task, result.shown, policy)
        results[name] = tuple(found)
        infos.append(
            ModelInfo(
                name=name,
                fingerprint=model.fingerprint,
                dim=model.dim,
                engine=f"{model.engine.device} {model.engine.precision}",
                trained_on="; ".join(data.description for data in training),
                seconds=time.perf_counter() - begin,
                encoding_seconds=vectors.encoding_seconds,
            )
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(tuple(infos), results, missing, created, version("fashionclip")), shown


def pictures_of(task: Task) -> tuple[Picture, ...]:
    """Every picture that a task needs the vector of."""
    match task:
        case ZeroShot():
            return (*task.pictures, *task.development_pictures)
        case Retrieval():
            return task.documents
        case PictureToPicture():
            return tuple(garment.picture for garment in (*task.queries, *task.documents))
        case Probe():
            return (*task.training_pictures, *task.pictures)
        case WrongAttribute():
            return task.pictures


class _Stage:
    """How far a model is on its present task."""

    def __init__(self, name: str, watch: Watch) -> None:
        self._name, self._watch = name, watch
        self._what, self._done, self._total = "", 0, 0

    def start(self, task: Task) -> None:
        """Begin the next task."""
        self._what, self._done = f"{self._name}: {task.name}", 0
        self._total = len(pictures_of(task))
        self._watch(self._what, 0, self._total)

    def advance(self, what: str, n: int) -> None:
        """Count pictures; texts take no time to speak of."""
        if what == "pictures":
            self._done = min(self._total, self._done + n)
            self._watch(self._what, self._done, self._total)


def _measure(
    task: Task,
    vectors: CachedVectors,
    check: LeakageCheck | None,
    *,
    prompts: str | None,
    seed: int,
) -> TaskResult:
    """Score a task by the scorer of its kind, and say what of it was seen in training."""
    seen, leakage = _seen(task, vectors, check) if check else (None, None)
    match task:
        case ZeroShot():
            result = score_zero_shot(task, vectors, seen=seen, prompts=prompts, seed=seed)
        case Retrieval():
            result = score_retrieval(task, vectors, seen=seen, seed=seed)
        case PictureToPicture():
            result = score_similar(task, vectors, seen=seen, seed=seed)
        case Probe():
            result = score_probe(task, vectors, seen=seen, seed=seed)
        case WrongAttribute():
            result = score_wrong_attribute(task, vectors, seen=seen, seed=seed)
    if leakage is None:
        return result
    return replace(result, notes=(*result.notes, f"Leakage check: {leakage}."))


def _seen(
    task: Task, vectors: CachedVectors, check: LeakageCheck
) -> tuple[Bool[np.ndarray, " question"], Leakage]:
    """Mark each picture, or each query, that the model was trained on or on an answer of."""
    pictures = _asked(task)
    texts = task.queries if isinstance(task, Retrieval) else [p.caption for p in pictures]
    digests = vectors.digests(pictures)
    files = check.same_files(digests)
    looks = check.same_looks(pictures, digests) & ~files
    words = check.same_texts(texts)
    leakage = Leakage(int(files.sum()), int(looks.sum()), int(words.sum()))
    seen = files | looks
    if isinstance(task, Retrieval):
        seen = words | np.array([seen[rows].any() for rows in task.relevant], dtype=bool)
    return seen, leakage


def _asked(task: Task) -> Sequence[Picture]:
    """The pictures that a task's questions are about."""
    match task:
        case ZeroShot() | Probe() | WrongAttribute():
            return task.pictures
        case Retrieval():
            return task.documents
        case PictureToPicture():
            return [garment.picture for garment in task.queries]


def _short_name(model: FashionCLIP) -> str:
    """The folder's own name for a model in a folder; a report is no place for whole paths."""
    path = Path(model.name)
    return path.resolve().name if path.is_dir() else model.name


def _thumbnails(
    task: Task, ids: Iterable[str], policy: FetchPolicy | None
) -> Iterator[tuple[str, str]]:
    wanted = set(ids)
    for picture in pictures_of(task):
        if picture.picture_id not in wanted:
            continue
        wanted.discard(picture.picture_id)
        source = picture.source
        try:
            if isinstance(source, str | Path):
                source = read_image_bytes(str(source), policy=policy or FetchPolicy())
            jpeg = thumbnail(source, max_px=THUMBNAIL_PX)
        except FashionCLIPError:
            continue  # the report says that there is no picture
        uri = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
        yield f"{task.name}/{picture.picture_id}", uri
