"""Ray's workers and the encoder that gives them batches, waits for results, and replaces the dead.

A worker is an actor that holds the model. It gets where images are, never pixels, and runs
``iter_encoded`` as a local run does. At most ``BATCHES_PER_WORKER`` batches are at each worker, so
the driver's memory does not grow with the stream.

A batch whose worker died goes to another worker, and a new one is started in its place. A batch
that outlives several workers is tried image by image, each alone, so that an image that kills its
worker costs only itself.
"""

import re
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from fashionclip.encoding import ImageJob, Result, iter_encoded
from fashionclip.errors import ClusterError, FashionCLIPError, ImageError
from fashionclip.images.decode import ImageSource
from fashionclip.images.fetch import FetchPolicy, is_url
from fashionclip.lines import reason_of
from fashionclip.model import FashionCLIP

PACKAGE = "fashionclip"
BATCHES_PER_WORKER = 2
"""One is decoded while the other is encoded."""
MODEL_BATCHES, GPU_MODEL_BATCHES = 2, 8
"""Batches of the model in a batch for a worker, which hide the way to it and back. A stream ends
sooner with small ones, because the workers then finish together."""
MAX_JOB_BYTES = 16 << 20
"""Bytes of images in one batch, of catalogues that hold the images themselves."""
MAX_DEATHS = 3
"""Workers that may die over a batch, and then over an image alone, before it is given up."""
START_TIMEOUT_S = 300.0
"""How long a run without any worker waits for one: a cluster may first have to start a machine."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """How many workers there are, and what each of them uses."""

    workers: int
    cores: int
    """CPU cores of each worker."""
    gpus: int = 0
    """GPUs of each worker: 0 or 1."""
    asked: int | None = None
    """Workers that were asked for, if the cluster has no room for as many."""

    def __str__(self) -> str:
        """Name the sizes, such as ``2 workers with 4 cores each``."""
        n, cores = self.workers, "1 core" if self.cores == 1 else f"{self.cores} cores"
        each = f"{cores} and 1 GPU" if self.gpus else cores
        sizes = f"1 worker with {each}" if n == 1 else f"{n} workers with {each} each"
        return (
            sizes
            if self.asked is None
            else f"{sizes}; there is room for {n} only, not for {self.asked}"
        )


class EncodingWorker:
    """The actor: one open model."""

    def open(
        self, driver_version: str, name: str, fingerprint: str, options: Mapping[str, Any]
    ) -> str | None:
        """Open the model; None if it is the driver's, else what is wrong here.

        Args:
            driver_version: of this package.
            name: of the model.
            fingerprint: of the driver's model.
            options: for ``FashionCLIP``.
        """
        here = socket.gethostname()
        if driver_version != version(PACKAGE):
            return (
                f"the Ray worker on {here} has fashionclip {version(PACKAGE)}, and this machine "
                f"{driver_version}; install the same version on both"
            )
        try:
            self._model = FashionCLIP(name, **options)
        except FashionCLIPError as error:
            return f"the Ray worker on {here} cannot open the model: {error}"
        if self._model.fingerprint != fingerprint:
            return (
                f"the model '{name}' on {here} has other weights than on this machine; copy the "
                "same folder to both, or name a hub repository"
            )
        self._threads = options["threads"]
        return None

    def encode(
        self, jobs: Sequence[ImageJob], policy: FetchPolicy, batch_size: int
    ) -> list[Result]:
        """Encode a batch: a result for each job."""
        stream = iter_encoded(
            self._model, jobs, policy, batch_size=batch_size, workers=self._threads
        )
        return list(stream)


@dataclass(eq=False, slots=True)
class _Batch:
    """Images that go to a worker together, and what came back."""

    jobs: Sequence[ImageJob]
    is_alone: bool = False
    """Whether its worker gets no other batch meanwhile: then a death is this one's doing."""
    n_deaths: int = 0
    results: Sequence[Result] | None = None


@dataclass(eq=False, slots=True)
class _Worker:
    """An actor, with the batches that it has."""

    actor: Any
    opening: Any
    """The reference of the answer to ``open``; None once it has come."""
    batches: dict[Any, _Batch] = field(default_factory=dict)
    """By the reference of their results."""

    def takes(self, batch: _Batch) -> bool:
        """Whether it can be given one more batch."""
        if self.opening is not None:
            return False
        if batch.is_alone or any(other.is_alone for other in self.batches.values()):
            return not self.batches
        return len(self.batches) < BATCHES_PER_WORKER


class RayEncoder:
    """An ``Encoder`` whose workers are on a Ray cluster; see ``open_ray_encoder``."""

    def __init__(
        self,
        model: FashionCLIP,
        plan: WorkerPlan,
        model_options: Mapping[str, Any],
        *,
        batch_size: int,
    ) -> None:
        """Start the workers; they open the model while the first batches are gathered."""
        import ray

        self.plan = plan
        """Number and size of the workers."""
        self._ray = ray
        self._batch_size = batch_size
        self._opening = (version(PACKAGE), model.name, model.fingerprint, model_options)
        self._actor_class: Any = ray.remote(EncodingWorker).options(
            num_cpus=plan.cores,
            num_gpus=plan.gpus,
            max_concurrency=BATCHES_PER_WORKER,
            max_restarts=0,  # a dead worker is replaced here, because Ray's restarts can stall
            scheduling_strategy="SPREAD",
        )
        self._n_failed_starts = 0
        self._workers = [self._start() for _ in range(plan.workers)]

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers = []

    def __call__(self, jobs: Iterable[ImageJob], policy: FetchPolicy) -> Iterator[Result]:
        """Encode a stream of images; item i of the output belongs to item i of the input.

        Args:
            jobs: any iterable; it is read some batches ahead.
            policy: how remote images may be fetched.

        Yields:
            For each job the image's key and vector, or the error of an image that cannot be used.

        Raises:
            ClusterError: no worker can be started, or the workers cannot do the work.
        """
        n_model_batches = GPU_MODEL_BATCHES if self.plan.gpus else MODEL_BATCHES
        source = _batches(jobs, self._batch_size * n_model_batches)
        n_ahead = self.plan.workers * BATCHES_PER_WORKER * 2
        queue: deque[_Batch] = deque()  # in the order of the stream
        try:
            while True:
                queue.extend(islice(source, max(0, n_ahead - len(queue))))
                self._give(queue, policy)
                if not queue:
                    return
                while queue and (results := queue[0].results) is not None:
                    queue.popleft()
                    self._give(queue, policy)
                    yield from results
                if queue and queue[0].results is None:
                    self._wait(queue)
        finally:
            for worker in self._workers:  # of a stream that ended early
                for reference in worker.batches:
                    self._ray.cancel(reference)
                worker.batches.clear()

    def _give(self, queue: deque[_Batch], policy: FetchPolicy) -> None:
        """Give the workers what they can take, the earliest batches first."""
        given = {id(batch) for worker in self._workers for batch in worker.batches.values()}
        for batch in queue:
            if batch.results is not None or id(batch) in given:
                continue
            able = [worker for worker in self._workers if worker.takes(batch)]
            if not able:
                return
            worker = min(able, key=lambda worker: len(worker.batches))
            reference = worker.actor.encode.remote(batch.jobs, policy, self._batch_size)
            worker.batches[reference] = batch

    def _wait(self, queue: deque[_Batch]) -> None:
        """Wait until a worker has opened its model, has done a batch or has died.

        Raises:
            ClusterError: none could be started in time, or one cannot do the work.
        """
        opening = [w.opening for w in self._workers if w.opening is not None]
        running = [reference for worker in self._workers for reference in worker.batches]
        ready, _ = self._ray.wait(
            [*opening, *running],
            num_returns=1,
            timeout=None if running else START_TIMEOUT_S,
        )
        if not ready:
            message = (
                f"no Ray worker could be started in {START_TIMEOUT_S:.0f} s; the cluster has to "
                f"have a machine with {self.plan.cores} free cores"
                + (" and a free GPU" if self.plan.gpus else "")
            )
            raise ClusterError(message)
        for worker in list(self._workers):
            if worker.opening in ready:
                self._opened(worker)
            elif any(reference in worker.batches for reference in ready):
                self._finished(worker, next(r for r in ready if r in worker.batches), queue)

    def _opened(self, worker: _Worker) -> None:
        """Take the answer of a worker that has opened its model.

        Raises:
            ClusterError: it cannot do the work, or worker after worker died before it could.
        """
        try:
            problem = self._ray.get(worker.opening)
        except self._ray.exceptions.RayError as exc:
            self._n_failed_starts += 1
            if missing := re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", str(exc)):
                problem = (
                    f"the Ray workers have no {missing[1]}; run pip install "
                    f"'fashionclip[ray]=={version(PACKAGE)}' on every machine of the cluster"
                )
            elif self._n_failed_starts > MAX_DEATHS * self.plan.workers:
                problem = f"the Ray workers die while they open the model: {reason_of(exc)}"
            else:
                self._replace(worker)
                return
        if problem is not None:
            raise ClusterError(problem)
        self._n_failed_starts = 0
        worker.opening = None

    def _finished(self, worker: _Worker, reference: Any, queue: deque[_Batch]) -> None:  # noqa: ANN401
        """Take the results of a batch; what a dead worker had goes back into the queue.

        Raises:
            ClusterError: the worker failed at something other than an image.
        """
        try:
            worker.batches[reference].results = _copied(self._ray.get(reference))
            del worker.batches[reference]
        except self._ray.exceptions.RayTaskError as exc:
            if isinstance(exc.cause, FashionCLIPError):
                raise exc.cause from exc
            message = f"a Ray worker failed: {reason_of(exc.cause)}"
            raise ClusterError(message) from exc
        except self._ray.exceptions.RayError:  # the worker, its machine or its results are gone
            lost = list(worker.batches.values())
            self._replace(worker)
            for batch in lost:
                _count_death(batch, queue)

    def _start(self) -> _Worker:
        actor = self._actor_class.remote()
        return _Worker(actor, actor.open.remote(*self._opening))

    def _replace(self, worker: _Worker) -> None:
        self._ray.kill(worker.actor)
        self._workers[self._workers.index(worker)] = self._start()


def _batches(jobs: Iterable[ImageJob], size: int) -> Iterator[_Batch]:
    """Batches of a number of jobs, smaller ones where the jobs hold large images themselves."""
    batch: list[ImageJob] = []
    n_bytes = 0
    for job in jobs:
        batch.append(replace(job, sources=tuple(map(_absolute, job.sources))))
        n_bytes += sum(len(source) for source in job.sources if isinstance(source, bytes))
        if len(batch) == size or n_bytes >= MAX_JOB_BYTES:
            yield _Batch(batch)
            batch, n_bytes = [], 0
    if batch:
        yield _Batch(batch)


def _absolute(source: ImageSource) -> ImageSource:
    """A path from the root, because the workers have other working folders."""
    if isinstance(source, Path):
        return source.absolute()
    if not isinstance(source, str) or is_url(source) or source.startswith("//"):
        return source
    return str(Path(source).absolute())


def _copied(results: Sequence[Result]) -> list[Result]:
    """Results of their own memory; those that Ray hands out occupy its object store."""
    return [
        result
        if isinstance(result, FashionCLIPError) or result.vector is None
        else replace(result, vector=result.vector.copy())
        for result in results
    ]


def _count_death(batch: _Batch, queue: deque[_Batch]) -> None:
    """Note that a batch's worker died; after several deaths, find the image that is at fault."""
    batch.n_deaths += 1
    if batch.n_deaths < MAX_DEATHS:
        return
    if not batch.is_alone:
        place = queue.index(batch)
        del queue[place]
        for job in reversed(batch.jobs):
            queue.insert(place, _Batch([job], is_alone=True))
        return
    why = f"the worker ended each of the {MAX_DEATHS} times that it was decoded; check the image"
    batch.results = [ImageError(why)]
