"""The Ray cluster: found or started, how many workers of which size it has room for."""

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from fashionclip.errors import ClusterError, MissingExtraError
from fashionclip.lines import reason_of
from fashionclip.model import FashionCLIP
from fashionclip.ray_encoding.workers import RayEncoder, WorkerPlan

CORES_PER_WORKER = 8
"""Of a CPU worker, by default: beyond these, a larger engine gains less than another one."""
CONNECT_TIMEOUT_S = 5.0
HTTP2_SETTINGS = b"\x04"
"""The kind of frame that each side begins with."""
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0" + HTTP2_SETTINGS + bytes(5)
TLS_ALERT = 0x15
OBJECT_STORE_BYTES = 512 << 20
"""Of a Ray that is started here; it holds the batches that are on their way."""


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
        ValueError: ``workers`` or ``threads`` is below 1.
    """
    for name, number in (("workers", workers), ("threads", threads)):
        if number is not None and number < 1:
            message = f"{name} is {number}; it must be at least 1"
            raise ValueError(message)
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
        return _plan(workers, sum(gpus), threads or max(1, min(shares)), gpus=1)

    def fitting(size: int) -> int:
        return sum(n // size for n in cores)

    if threads is None:
        most = max(cores) if workers else min(CORES_PER_WORKER, max(cores))
        wanted = workers or 1
        threads = next((n for n in range(most, 0, -1) if fitting(n) >= wanted), 1)
    if not fitting(threads):
        message = f"no machine of the Ray cluster has {threads} free cores; ask for fewer"
        raise ClusterError(message)
    return _plan(workers, fitting(threads), threads)


def _plan(workers: int | None, room: int, cores: int, *, gpus: int = 0) -> WorkerPlan:
    """As many workers as are asked for, or as there is room for."""
    asked = workers if workers is not None and workers > room else None
    return WorkerPlan(min(workers or room, room), cores, gpus, asked)


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
) -> Iterator[RayEncoder]:
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
        ValueError: ``workers`` or ``threads`` is below 1.
    """
    if find_spec("ray") is None:
        message = "work on several machines needs ray: pip install 'fashionclip[ray]'"
        raise MissingExtraError(message)
    import ray

    was_connected = ray.is_initialized()
    if not was_connected:
        _connect(address)
        _let_ray_print(False)
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
            _let_ray_print(True)


def _let_ray_print(is_allowed: bool) -> None:
    """Say whether Ray may print that a worker died; to stdout, where the data of commands goes."""
    from ray._private import worker

    worker._worker_logs_enabled = is_allowed  # what its debugger sets too: there is no option


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
        why = reason_of(exc).rstrip(".") + (mend if address not in {"auto", "local"} else "")
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
    """Refuse an address at which no Ray listens, which Ray would try for minutes.

    Raises:
        ClusterError: the address is not one, nothing answers there, or something else than Ray.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        message = f"'{address}' is no Ray address; give auto, local, HOST:PORT or ray://HOST:PORT"
        raise ClusterError(message)
    try:
        place = host.strip("[]"), int(port)
        with socket.create_connection(place, CONNECT_TIMEOUT_S) as connection:
            is_ray = _speaks_http2(connection)
    except (OSError, OverflowError) as exc:
        why = getattr(exc, "strerror", None) or str(exc)
        message = f"no Ray cluster answers at {address} ({why}); check the address and the port"
        raise ClusterError(message) from exc
    if not is_ray:
        message = (
            f"what answers at {address} is no Ray cluster (or asks for a token: "
            "RAY_AUTH_MODE=token); check the address and the port"
        )
        raise ClusterError(message)


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether the other side greets as servers of gRPC do, or may do so over TLS only."""
    try:
        connection.sendall(HTTP2_GREETING)
        answer = connection.recv(9)
    except TimeoutError:
        return False
    except ConnectionError:
        return True  # it hung up, as one with TLS may
    return not answer or answer[0] == TLS_ALERT or answer[3:4] == HTTP2_SETTINGS
