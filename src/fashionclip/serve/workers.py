"""The service's processes: a parent holds the socket and watches the workers, which uvicorn runs.

A worker that has crashed is replaced, and ``SIGHUP`` replaces them one after the other, without
losing requests; ``SIGTERM`` ends the service after it has answered what it accepted. Workers share
the socket, the counts of rate limits and the metrics, and nothing else: each has its own index.
"""

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from threadpoolctl import threadpool_limits
from uvicorn import Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from fashionclip.errors import FashionCLIPError, ServiceError
from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs
from fashionclip.serve.middleware.connections import Connections, raise_file_limit
from fashionclip.serve.middleware.limits import App
from fashionclip.serve.middleware.rates import TABLE_BYTES, RateLimiter
from fashionclip.serve.readiness import Flag, LoadingApp
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings
from fashionclip.serve.switch import Switch
from fashionclip.store.alias import is_alias, resolve

STARTUP_FAILURE = 3  # uvicorn's own exit code: the parent does not try again
STARTUP_SECONDS = 60  # to import everything, read the store and open the model
RESTART_S = 10.0  # between tries to start a worker while others answer
SWITCH_SECONDS = 0.0001  # longest wait for Python's lock, e.g. after a matrix product
GARBAGE_THRESHOLDS = (100_000, 50, 1_000)
"""A search makes thousands of objects, and none that only a collection frees; with Python's own
thresholds, each one looks through the ids of all products now and then."""
BACKLOG = 4_096  # connections that wait at the socket while no worker accepts them
RATES_NAME = "rates"
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def serve(
    store: str | Path, settings: Settings, *, on_address: Callable[[str], None] | None = None
) -> None:
    """Serve an index until the process is told to stop.

    Args:
        store: the store's URI: a folder, ``s3://…`` or ``postgresql://…``; or an alias.
        settings: address, keys and limits.
        on_address: called with the service's URL as soon as the socket accepts connections.

    Raises:
        ServiceError: the address cannot be listened on, or the workers cannot start.
    """
    connections = Connections(
        head_seconds=settings.head_seconds, drain_seconds=settings.drain_seconds
    )
    failures, failure = Pipe(duplex=False)
    flags = Flags(is_answering=Flag(), is_stopping=Flag())
    listening = listen(settings.host, settings.port)
    logs.configure(sys.stderr)
    with listening, _shared_folder(settings.workers) as shared:
        config = Config(
            partial(build, store, settings, connections, shared, failure, flags),
            factory=True,
            workers=settings.workers,
            http=connections,  # type: ignore[arg-type]  # a factory of protocols, like a class
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            ws="none",
            timeout_worker_healthcheck=STARTUP_SECONDS,
            backlog=BACKLOG,
            timeout_graceful_shutdown=round(settings.shutdown_seconds),
        )
        if on_address is not None:
            host, port = listening.getsockname()[:2]
            on_address(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        parent = _Parent(config, [listening], failures, shared, flags)
        for number in (signal.SIGINT, signal.SIGTERM):  # also while a new worker starts
            signal.signal(number, lambda *_: parent.stop())
        parent.run()
    if any(process.exitcode == STARTUP_FAILURE for process in parent.processes):
        parent.read_failures()
        message = parent.last_failure or "the service could not start; its log says why"
        raise ServiceError(message)


@dataclass(frozen=True, slots=True)
class Flags:
    """What a service's processes tell each other."""

    is_answering: Flag
    """Whether a worker has opened its index, so that a new one can wait until it has too."""
    is_stopping: Flag
    """Whether the whole service is stopping."""


@contextmanager
def _shared_folder(n_workers: int) -> Iterator[Path | None]:
    """The files that several workers share: counts of rate limits, and metrics; None for one.

    Raises:
        ServiceError: there is no place for temporary files.
    """
    if n_workers == 1:
        yield None
        return
    try:
        folder = TemporaryDirectory(prefix="fashionclip-")
    except OSError as exc:
        message = f"--workers needs a place for temporary files ({exc.strerror}); set TMPDIR"
        raise ServiceError(message) from exc
    with folder as name:
        Path(name, RATES_NAME).write_bytes(bytes(TABLE_BYTES))
        # prometheus_client reads it when a worker imports it, and has no other way
        os.environ[METRICS_VARIABLE] = name  # noqa: TID251
        try:
            yield Path(name)
        finally:
            del os.environ[METRICS_VARIABLE]  # noqa: TID251


class _Parent(Multiprocess):
    """Watches the workers."""

    def __init__(
        self,
        config: Config,
        sockets: list[socket.socket],
        failures: "Connection[str, str]",
        shared: Path | None,
        flags: Flags,
    ) -> None:
        super().__init__(config, sockets)
        self.last_failure = ""
        """Why a worker could not start."""
        self._failures, self._shared, self._flags = failures, shared, flags
        self._restart_at = 0.0

    def stop(self) -> None:
        """Stop the service."""
        self._flags.is_stopping.set()
        self.should_exit.set()

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that have died or hang; what cannot start is tried again later.

        uvicorn's own method ends the service with the first worker that cannot start. Here that
        happens only if no other worker answers.
        """
        self.read_failures()
        living = [process for process in self.processes if self._answers(process)]
        ended = [process for process in self.processes if process not in living]
        for process in ended:
            process.kill()
            process.join()
        failed = [process for process in ended if process.exitcode == STARTUP_FAILURE]
        if failed and not any(process.is_ready(timeout=1) for process in living):
            logs.warn(f"no worker could start: {failed[0].pid} failed")
            self.should_exit.set()
            return
        if failed:
            self._restart_at = time.monotonic() + RESTART_S
        self.processes = living
        if not living:
            self._flags.is_answering.clear()
        if time.monotonic() >= self._restart_at:
            while len(self.processes) < self.processes_num and not self.should_exit.is_set():
                process = Process(self.config, self.sockets)
                process.start()
                self.processes.append(process)
        self._forget_metrics()

    def _answers(self, process: Process) -> bool:
        # without its own copy of the child's end, the parent's check of a dead child fails at once
        process.child_conn.close()
        return bool(process.is_alive(timeout=STARTUP_SECONDS))

    def read_failures(self) -> None:
        """Take what workers say before they give up, so that their pipe never fills."""
        while self._failures.poll():
            self.last_failure = self._failures.recv()

    def _forget_metrics(self) -> None:
        """Take the memory and queues of workers that have ended out of the metrics."""
        living = {str(process.pid) for process in self.processes}
        for path in self._shared.glob("gauge_live*.db") if self._shared is not None else ():
            if path.stem.rpartition("_")[2] not in living:
                path.unlink(missing_ok=True)


def build(
    store: str | Path,
    settings: Settings,
    connections: Connections,
    shared: Path | None,
    failure: "Connection[str, str]",
    flags: Flags,
) -> App:
    """Open store, model and keys, in the worker.

    While no other worker answers, this one answers probes meanwhile.

    Args:
        store: the store's URI, or an alias.
        settings: address, keys and limits.
        connections: drained when the worker stops.
        shared: the folder that several workers share; None for one worker.
        failure: takes the reason if the worker cannot start.
        flags: what the processes tell each other.

    Raises:
        SystemExit: one of them cannot be used; the log says why.
    """
    logs.configure(sys.stderr)
    sys.setswitchinterval(SWITCH_SECONDS)
    # after each search, idle threads of NumPy's spin for milliseconds, on cores that others need
    threadpool_limits(1, user_api="blas")
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    connections.max_open = raise_file_limit()
    connections.linger_on_stop()

    def open_app() -> App:
        try:
            app = _open_app(store, settings, connections, shared, flags)
        except FashionCLIPError as exc:
            logs.warn(str(exc))
            failure.send(str(exc))
            raise SystemExit(STARTUP_FAILURE) from exc
        logs.note("the index is open")
        flags.is_answering.set()
        return app

    if flags.is_answering:
        return connections.track(open_app())
    return connections.track(LoadingApp(open_app, read_only=settings.read_only))


def _open_app(
    store: str | Path,
    settings: Settings,
    connections: Connections,
    shared: Path | None,
    flags: Flags,
) -> App:
    metrics = Metrics(shared=shared)
    per_second = settings.rate_per_minute / 60.0
    table = None if shared is None else shared / RATES_NAME
    rates = RateLimiter(per_second, settings.burst, table=table)
    open_service = partial(SearchService, settings=settings, metrics=metrics)
    address = resolve(store)
    services = Services(open_service(address))
    services.is_stopping = flags.is_stopping.__bool__
    switch = None
    if is_alias(store):
        switch = Switch(
            Path(store),
            address,
            services,
            open_service,
            metrics,
            allow_any_store=settings.allow_any_store,
        )
    return create_app(
        services, settings, metrics, connections=connections, switch=switch, rates=rates
    )


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        ServiceError: the address is in use, or not one of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sets TCP_NODELAY only on sockets that say they are TCP; without it an answer's
        # body waits 40 ms for the acknowledgement of its head
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)  # early clients wait until the first worker is up
    except OSError as exc:
        message = f"{host}:{port} cannot be listened on ({exc.strerror}); choose another --port"
        raise ServiceError(message) from exc
    return listening
