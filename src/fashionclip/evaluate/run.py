"""A run: models on benchmarks, each task scored over vectors that are computed once."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from fashionclip.encoding import Encoder
from fashionclip.errors import BenchmarkError, EvaluationError, FashionCLIPError, MissingExtraError
from fashionclip.evaluate.benchmarks import find_benchmark, find_folder
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.leakage import LeakageCheck, TrainingData, read_training_data
from fashionclip.evaluate.probe import score_probe
from fashionclip.evaluate.results import ModelInfo, Run, TaskResult
from fashionclip.evaluate.retrieval import score_image_to_image, score_retrieval
from fashionclip.evaluate.tasks import (
    ImageRef,
    ImageToImage,
    Probe,
    Retrieval,
    Task,
    WrongAttribute,
    ZeroShot,
    images_of,
    scored_images,
)
from fashionclip.evaluate.wrong_attribute import score_wrong_attribute
from fashionclip.evaluate.zero_shot import score_zero_shot
from fashionclip.images.decode import fetch_image, thumbnail_uri
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy
from fashionclip.model import FashionCLIP

THUMBNAIL_PX = 160
"""Longest side of the images that a report shows."""
ProgressCallback = Callable[[str, int, int], None]
"""Called with what is being measured, and how many images of how many are done."""
OpenEncoder = Callable[[FashionCLIP], AbstractContextManager[Encoder]]
"""Opens what encodes a model's images."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskSuite:
    """The tasks of the benchmarks that were found, and those that were not."""

    tasks: tuple[Task, ...]
    missing: Mapping[str, str]
    """Benchmark to one line on how to get it."""
    warnings: Mapping[str, tuple[str, ...]]
    """Task to what was wrong with its benchmark's files."""


def load_benchmarks(names: Sequence[str], data: Path | None) -> TaskSuite:
    """Read benchmarks; one that is missing does not keep the others from being measured.

    Args:
        names: names of benchmarks, or paths of your own tables.
        data: folder that holds the benchmarks' folders.

    Raises:
        BenchmarkError: an unknown name, two of one name, or none of them can be read.
    """
    tasks: list[Task] = []
    missing: dict[str, str] = {}
    warnings: dict[str, tuple[str, ...]] = {}
    found = {name: find_benchmark(name) for name in names}  # a typo is refused before any reading
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
    return TaskSuite(tuple(tasks), missing, warnings)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One thing to measure of a model: a task of a benchmark, a probe or an audit."""

    name: str
    """Of the result: ``kagl/article-type``."""
    images: tuple[ImageRef, ...]
    """Those that it encodes, for the progress, and for what a report shows."""
    score: Callable[[CachedEncoder, LeakageCheck | None], TaskResult]
    """Measures one model; the check is None where nothing is known of its training data."""
    n_images: int | None = None
    """How many it encodes, where some are made while it measures; None for ``len(images)``."""


def evaluate_models(
    models: Iterable[FashionCLIP],
    suite: TaskSuite,
    *,
    cache: Path | None = None,
    prompts: str | None = None,
    trained_on: Sequence[TrainingData] = (),
    policy: FetchPolicy | None = None,
    open_encoder: OpenEncoder | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> tuple[Run, dict[str, str]]:
    """Measure models on tasks.

    Args:
        models: opened one after the other, if this is a generator.
        suite: what to measure.
        cache: as for ``measure_models``.
        prompts: a style of prompts for every zero-shot task; None chooses one for each model on
            the task's development images.
        trained_on: as for ``measure_models``.
        policy: as for ``measure_models``.
        open_encoder: as for ``measure_models``.
        seed: of all random sampling.
        progress: as for ``measure_models``.

    Returns:
        The run, and the images its report shows: data URIs by ``<task>/<image_id>``.

    Raises:
        EvaluationError: as ``measure_models``.
    """

    def job(task: Task) -> Job:
        def score(encoder: CachedEncoder, check: LeakageCheck | None) -> TaskResult:
            result = _measure(task, encoder, check, prompts=prompts, seed=seed)
            warnings = (*suite.warnings.get(task.name, ()), *result.warnings)
            return replace(result, warnings=warnings)

        return Job(task.name, images_of(task), score)

    return measure_models(
        models,
        [job(task) for task in suite.tasks],
        missing=suite.missing,
        cache=cache,
        trained_on=trained_on,
        policy=policy,
        open_encoder=open_encoder,
        progress=progress,
    )


def measure_models(
    models: Iterable[FashionCLIP],
    jobs: Sequence[Job],
    *,
    missing: Mapping[str, str],
    title: str = "Evaluation",
    cache: Path | None = None,
    trained_on: Sequence[TrainingData] = (),
    policy: FetchPolicy | None = None,
    open_encoder: OpenEncoder | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Run, dict[str, str]]:
    """Measure models by any jobs.

    Args:
        models: opened one after the other, if this is a generator.
        jobs: what to measure; each has a name of its own.
        missing: what cannot be measured, and why, for the report.
        title: of the report.
        cache: folder for vectors; None keeps nothing.
        trained_on: what the models were trained on, besides the records in their folders.
        policy: how remote images may be fetched.
        open_encoder: opens what encodes a model's images, such as ``open_ray_encoder``; None for
            this process.
        progress: called as images get done.

    Returns:
        The run, and the images its report shows: data URIs by ``<task>/<image_id>``.

    Raises:
        EvaluationError: a model gives NaN, two models have one name, or the cache cannot be used.
    """
    infos: list[ModelInfo] = []
    results: dict[str, tuple[TaskResult, ...]] = {}
    not_measured = dict(missing)
    shown: dict[str, str] = {}
    for model in models:
        begin = time.perf_counter()
        refuse_equal_names([*(info.name for info in infos), model.name])
        name = _short_name(model.name)
        own = read_training_data(model.checkpoint.folder)
        training = [*([own] if own else []), *trained_on]
        check = LeakageCheck(training, cache, policy=policy) if training else None
        counter = _Counter(name, progress or (lambda what, done, total: None))
        found: list[TaskResult] = []
        with nullcontext() if open_encoder is None else open_encoder(model) as images:
            encoder = CachedEncoder(
                model, cache, policy=policy, encoder=images, progress=counter.advance
            )
            for job in jobs:
                counter.start(job)
                try:
                    result = job.score(encoder, check)
                except MissingExtraError as error:
                    not_measured[job.name] = str(error)
                    continue
                found.append(result)
                shown |= _thumbnails(job, result.shown, policy)
        results[name] = tuple(found)
        infos.append(
            ModelInfo(
                name=name,
                fingerprint=model.fingerprint,
                dim=model.dim,
                engine=f"{model.engine.device} {model.engine.precision}",
                trained_on="; ".join(data.description for data in training),
                seconds=time.perf_counter() - begin,
                encoding_seconds=encoder.encoding_seconds,
            )
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    run = Run(tuple(infos), results, not_measured, created, version("fashionclip"), title)
    return run, shown


class _Counter:
    """How many images of its present job a model has done."""

    def __init__(self, name: str, progress: ProgressCallback) -> None:
        self._name, self._progress = name, progress
        self._what, self._done, self._total = "", 0, 0

    def start(self, job: Job) -> None:
        """Begin the next job."""
        self._what, self._done = f"{self._name}: {job.name}", 0
        self._total = len(job.images) if job.n_images is None else job.n_images
        self._progress(self._what, 0, self._total)

    def advance(self, modality: str, n: int) -> None:
        """Count images; encoding texts takes little time."""
        if modality == "images":
            self._done = min(self._total, self._done + n)
            self._progress(self._what, self._done, self._total)


def _measure(
    task: Task,
    encoder: CachedEncoder,
    check: LeakageCheck | None,
    *,
    prompts: str | None,
    seed: int,
) -> TaskResult:
    """Score a task by the scorer of its kind, and note what of it was seen in training."""
    seen, leakage = None, None
    if check:
        seen, leakage = check.seen_in(task, encoder.digests(scored_images(task)))
    match task:
        case ZeroShot():
            result = score_zero_shot(task, encoder, seen=seen, prompts=prompts, seed=seed)
        case Retrieval():
            result = score_retrieval(task, encoder, seen=seen, seed=seed)
        case ImageToImage():
            result = score_image_to_image(task, encoder, seen=seen, seed=seed)
        case Probe():
            result = score_probe(task, encoder, seen=seen, seed=seed)
        case WrongAttribute():
            result = score_wrong_attribute(task, encoder, seen=seen, seed=seed)
    if leakage is None:
        return result
    return replace(result, notes=(*result.notes, f"Leakage check: {leakage}."))


def refuse_equal_names(names: Iterable[str]) -> None:
    """Refuse models that results could not tell apart.

    Args:
        names: of models, or paths of their folders, whose last part counts.

    Raises:
        EvaluationError: two are equal.
    """
    counts = Counter(map(_short_name, names))
    for name, n in counts.items():
        if n > 1:
            message = f"two of the models are called {name}; rename one of the folders"
            raise EvaluationError(message)


def _short_name(name: str) -> str:
    """A folder's own name for a model in a folder, without its whole path."""
    path = Path(name)
    return path.resolve().name if path.is_dir() else name


def _thumbnails(
    job: Job, ids: Iterable[str], policy: FetchPolicy | None
) -> Iterator[tuple[str, str]]:
    wanted = set(ids)
    for image in job.images:
        if image.image_id not in wanted:
            continue
        wanted.discard(image.image_id)
        try:
            source = fetch_image(image.source, policy=policy or DEFAULT_POLICY)
            uri = thumbnail_uri(source, max_px=THUMBNAIL_PX)
        except FashionCLIPError:
            continue  # the report shows its id
        yield f"{job.name}/{image.image_id}", uri
