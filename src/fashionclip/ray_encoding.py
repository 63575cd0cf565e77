"""The encoder on Ray: batches of images go to workers, vectors and errors come back in order.

A worker is an actor that holds the model. It gets where images are, never pixels, and runs
``iter_encoded`` as a local run does. At most ``BATCHES_PER_WORKER`` batches are at each worker, so
the driver's memory does not grow with the stream.

These are plain actors, not Ray Data: a Ray dataset is not made from a generator of the driver
without holding all of it, and an actor pool whose actor dies can stall in silence. Here a batch
whose worker died goes to another worker, and a new one is started in its place. A batch that
outlives several workers is tried image by image, each alone, so that an image that kills its
worker costs only itself.
"""

import logging
import os
import re
import socket
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from fashionclip.encoding import ImageJob, Result, iter_encoded
from fashionclip.errors import ClusterError, FashionCLIPError, ImageError, MissingExtraError
from fashionclip.images.decode import ImageSource
from fashionclip.images.fetch import FetchPolicy, is_url
from fashionclip.model import FashionCLIP

PACKAGE = "fashionclip"
CORES_PER_WORKER = 8
"""Of a CPU worker, by default: beyond these, a larger engine gains less than another one."""
BATCHES_PER_WORKER = 2
"""One is decoded while the other is encoded."""
MODEL_BATCHES, GPU_MODEL_BATCHES = 2, 8
"""Batches of the model in a batch for a worker, which hide the way to it and back. A stream ends
sooner with small ones, because the workers then finish together."""
MAX_JOB_BYTES = 16 << 20
"""Bytes of images in one batch, of catalogues that hold the images themselves."""
MAX_DEATHS = 3
"""Workers that may die over a batch, and then over an image alone, before it is given up."""
CONNECT_TIMEOUT_S = 5.0
START_TIMEOUT_S = 300.0
"""How long a run without any worker waits for one: a cluster may first have to start a machine."""
OBJECT_STORE_BYTES = 512 << 20
"""Of a Ray that is started here; it holds the batches that are on their way."""


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """How many workers there are, and what each of them uses."""

    workers: int
    cores: int
    """CPU cores of each worker."""
    gpus: int = 0
    """GPUs of each worker: 0 or 1."""

    def __str__(self) -> str:
        """Name the sizes, such as ``2 workers with 4 cores each``."""
        n, cores = self.workers, "1 core" if self.cores == 1 else f"{self.cores} cores"
        each = f"{cores} and 1 GPU" if self.gpus else cores
        return f"1 worker with {each}" if n == 1 else f"{n} workers with {each} each"


def plan_workers(
    machines: Sequence[Mapping[str, float]],
    *,
    workers: int | None = None,
    threads: int | None = None,
    on_gpu: bool = False,
) -> WorkerPlan:
    """Choose the number of workers and their size for a cluster; one core of each machine is left.

    Args:
        machines: each one's resources as Ray names them: ``CPU``, ``GPU``.
        workers: how many are wanted at most; None for one a GPU, or one for every 8 cores.
        threads: cores of each worker; None to share out all of them.
        on_gpu: whether a worker takes a GPU.

    Raises:
        ClusterError: the cluster has no cores, or no GPU for ``on_gpu``.
    """
    gpus = [int(machine.get("GPU", 0)) for machine in machines]
    cores = [max(1, int(machine["CPU"]) - 1) for machine in machines if machine.get("CPU", 0) >= 1]
    if not cores or (on_gpu and not any(gpus)):
        message = f"the Ray cluster has no {'GPU' if cores else 'CPU'}; add a machine that has one"
        raise ClusterError(message)
    if on_gpu:
        shares = [
            max(1, int(machine.get("CPU", 0)) - 1) // n
            for machine, n in zip(machines, gpus, strict=True)
            if n
        ]
        n_gpus = sum(gpus)
        return WorkerPlan(min(workers or n_gpus, n_gpus), threads or max(1, min(shares)), 1)

    def fitting(size: int) -> int:
        return sum(n // size for n in cores)

    if threads is None:
        most = max(cores) if workers else min(CORES_PER_WORKER, max(cores))
        wanted = workers or 1
        threads = next((n for n in range(most, 0, -1) if fitting(n) >= wanted), 1)
    if not fitting(threads):
        message = f"no machine of the Ray cluster has {threads} free cores; ask for fewer"
        raise ClusterError(message)
    return WorkerPlan(min(workers or fitting(threads), fitting(threads)), threads)


@contextmanager
def open_ray_encoder(
    model: FashionCLIP,
    address: str = "auto",
    *,
    workers: int | None = None,
    threads: int | None = None,
    batch_size: int = 32,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator["RayEncoder"]:
    """Connect to a Ray cluster, or start one on this machine, and open an encoder on it.

    A program that is connected to Ray already keeps its connection, and ``address`` is not used.

    Args:
        model: what the workers open too, by its name; they compare its fingerprint.
        address: ``auto`` for the cluster that this machine is part of, or else ``local``, a Ray
            for this run alone; or a cluster's address, ``HOST:PORT`` or ``ray://HOST:PORT``.
        workers: how many; None for one a GPU, or one for every 8 cores.
        threads: cores of each worker; None to share out all of them.
        batch_size: images per call of the engine.
        device: of the workers' engines, as in ``FashionCLIP``.
        precision: of the workers' engines, as in ``FashionCLIP``.

    Yields:
        The encoder; its workers end with the block.

    Raises:
        ClusterError: the cluster cannot be reached or used.
        MissingExtraError: Ray is not installed.
    """
    if find_spec("ray") is None:
        message = "work on several machines needs ray: pip install 'fashionclip[ray]'"
        raise MissingExtraError(message)
    import ray

    was_connected = ray.is_initialized()
    if not was_connected:
        _connect(address)
    try:
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        machines = [node["Resources"] for node in nodes if node["Alive"]]
        has_gpu = any(machine.get("GPU", 0) >= 1 for machine in machines)
        if device == "auto":
            device = "cuda" if has_gpu and find_spec("torch") is not None else "cpu"
        plan = plan_workers(
            machines, workers=workers, threads=threads, on_gpu=device.startswith("cuda")
        )
        model_options = {
            "device": device.partition(":")[0],  # Ray says which GPU is a worker's
            "precision": precision,
            "threads": plan.cores,
        }
        encoder = RayEncoder(model, plan, model_options, batch_size=batch_size)
        try:
            yield encoder
        finally:
            encoder.close()
    finally:
        if not was_connected:
            ray.shutdown()


def _connect(address: str) -> None:
    """Connect to a cluster, or start a local one.

    Raises:
        ClusterError: it cannot be reached, or not be used from here.
    """
    if address not in {"auto", "local"}:
        _require_listener(address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's, and Lance's of the forks that Ray makes
            _init(address)
    except Exception as exc:  # Ray has many types for it
        mend = "; a cluster with token authentication needs RAY_AUTH_MODE=token here too"
        why = _one_line(exc).rstrip(".") + (mend if address not in {"auto", "local"} else "")
        message = f"the Ray cluster at {address} cannot be used: {why}"
        raise ClusterError(message) from exc


def _init(address: str) -> None:
    import ray

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "auto":
        with suppress(ConnectionError):  # this machine is in no cluster
            ray.init("auto", **quiet)
            return
    if address in {"auto", "local"}:
        # one core more than there are: that is the driver's, which is no worker
        ray.init(
            "local",
            num_cpus=(os.cpu_count() or 1) + 1,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            **quiet,
        )
    else:
        ray.init(address, **quiet)


def _require_listener(address: str) -> None:
    """Refuse an address at which nothing listens, which Ray would try for minutes.

    Raises:
        ClusterError: the address is not one, or nothing answers there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        message = f"'{address}' is no Ray address; give auto, local, HOST:PORT or ray://HOST:PORT"
        raise ClusterError(message)
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as exc:
        why = getattr(exc, "strerror", None) or str(exc)
        message = f"no Ray cluster answers at {address} ({why}); check the address and the port"
        raise ClusterError(message) from exc


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
                problem = f"the Ray workers die while they open the model: {_one_line(exc)}"
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
            message = f"a Ray worker failed: {_one_line(exc.cause)}"
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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
