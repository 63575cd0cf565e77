"""Micro-batches of concurrent requests for the model, and a bounded pool of threads for the rest.

No request waits for others to arrive. While one batch is computed the next one fills up, so a
single request is as fast as without batching, and batches grow with the load.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float32, Int, UInt8

from fashionclip.checkpoint import PatchAttention
from fashionclip.engines import Engine
from fashionclip.errors import (
    BusyError,
    FilterError,
    ProductNotFoundError,
    ServiceError,
    StoreError,
)
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs

T = TypeVar("T")
R = TypeVar("R")

_AnyFuture = Future[R] | asyncio.Future[R]


class MicroBatcher(Generic[T, R]):
    """One thread that computes submitted items in batches, in the order of their arrival."""

    def __init__(
        self,
        compute: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        name: str,
        metrics: Metrics,
        max_batch: int,
        max_pending: int | None = None,
    ) -> None:
        """Start the thread.

        Args:
            compute: returns a result per item; an ``Exception`` is raised for that item alone.
            name: of the thread and in the metrics.
            metrics: counts pending items and batch sizes.
            max_batch: items per call of ``compute``, at least 1.
            max_pending: items that may be pending through ``submit``, including those that are
                being computed; None for no limit.
        """
        self._compute, self._name, self._metrics = compute, name, metrics
        self._max_batch, self._max_pending = max_batch, max_pending
        self._waiting: deque[tuple[T, _AnyFuture[R]]] = deque()
        self._has_work = threading.Condition()
        self._is_closed = False
        self._n_pending = 0
        self._thread = threading.Thread(target=self._run, name=f"fashionclip-{name}", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._waiting)

    async def submit(self, item: T) -> R:
        """Compute one item, from the event loop.

        Raises:
            BusyError: ``max_pending`` items are pending already.
            ServiceError: the batcher is closed; and whatever ``compute`` raises.
        """
        if self._max_pending is not None:
            _require_capacity(self._n_pending, self._max_pending)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._add([(item, future)])
        loop.call_soon(self._wake)  # after all requests of this turn of the loop
        self._count(1)
        try:
            return await future
        finally:
            self._count(-1)

    def submit_all(self, items: Sequence[T]) -> list[R]:
        """Compute items, from any other thread; blocks until all of them are done.

        Raises:
            ServiceError: the batcher is closed; and whatever ``compute`` raises.
        """
        futures: list[Future[R]] = [Future() for _ in items]
        self._add(list(zip(items, futures, strict=True)))
        self._wake()
        return [future.result() for future in futures]

    def close(self) -> None:
        """Compute what is waiting, and accept no more."""
        with self._has_work:
            self._is_closed = True
            self._has_work.notify()
        self._thread.join()

    def _add(self, entries: Sequence[tuple[T, _AnyFuture[R]]]) -> None:
        with self._has_work:
            if self._is_closed:
                message = "the service is stopping"
                raise ServiceError(message)
            self._waiting.extend(entries)

    def _wake(self) -> None:
        with self._has_work:
            self._has_work.notify()

    def _count(self, change: int) -> None:
        self._n_pending += change
        self._metrics.pending(self._name, self._n_pending)

    def _run(self) -> None:
        while batch := self._next_batch():
            self._metrics.batch(self._name, len(batch))
            results: Sequence[R | Exception]
            try:
                results = self._compute([item for item, _ in batch])
            except Exception as exc:
                results = [exc] * len(batch)
            _resolve([future for _, future in batch], results)

    def _next_batch(self) -> list[tuple[T, _AnyFuture[R]]]:
        """The items of the next batch; empty once the batcher is closed."""
        with self._has_work:
            while not self._waiting and not self._is_closed:
                self._has_work.wait()
            size = min(self._max_batch, len(self._waiting))
            return [self._waiting.popleft() for _ in range(size)]


def _resolve(futures: Sequence[_AnyFuture[R]], results: Sequence[R | Exception]) -> None:
    """Set results; those of one event loop with a single call, since each call wakes it up."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[R], R | Exception]]] = {}
    for future, result in zip(futures, results, strict=True):
        if isinstance(future, asyncio.Future):
            by_loop.setdefault(future.get_loop(), []).append((future, result))
        else:
            _set(future, result)
    for loop, pairs in by_loop.items():
        loop.call_soon_threadsafe(_set_all, pairs)


def _set_all(pairs: Sequence[tuple[asyncio.Future[R], R | Exception]]) -> None:
    for future, result in pairs:
        _set(future, result)


def _set(future: _AnyFuture[R], result: R | Exception) -> None:
    if future.done():  # its client has disconnected
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


class BoundedExecutor:
    """A bounded pool of threads; calls beyond its queue are rejected with 429."""

    def __init__(self, name: str, metrics: Metrics, *, n_threads: int, max_pending: int) -> None:
        """Create the pool.

        Args:
            name: of the threads and in the metrics.
            metrics: counts pending calls.
            n_threads: calls that run at the same time.
            max_pending: calls that may be pending, including those that run.
        """
        self._name, self._metrics, self._max_pending = name, metrics, max_pending
        self._n_pending = 0
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix=f"fashionclip-{name}")

    async def run(self, call: Callable[..., R], *args: object) -> R:
        """Run a call in a thread, from the event loop; errors of the store are logged too.

        Raises:
            BusyError: ``max_pending`` calls are pending already.
            StoreError: the store cannot be used; and whatever the call raises.
        """
        _require_capacity(self._n_pending, self._max_pending)
        self._count(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call, *args)
        except StoreError as exc:
            log_store_error(exc)
            raise
        finally:
            self._count(-1)

    def close(self) -> None:
        """Finish the calls that are pending."""
        self._pool.shutdown()

    def _count(self, change: int) -> None:
        self._n_pending += change
        self._metrics.pending(self._name, self._n_pending)


def log_store_error(error: StoreError) -> None:
    """Log an error of the store, whose message clients do not get: it names the store's place."""
    if not isinstance(error, FilterError | ProductNotFoundError):
        logs.warn(str(error))


def _require_capacity(n_pending: int, max_pending: int) -> None:
    """Reject a request that would exceed a queue.

    Raises:
        BusyError: the queue is full.
    """
    if n_pending >= max_pending:
        message = f"more than {max_pending} requests are waiting; try again shortly"
        raise BusyError(message)


class BatchingEngine:
    """An engine that batches calls from several threads; see ``engines.Engine``."""

    def __init__(self, engine: Engine, metrics: Metrics, *, max_batch: int) -> None:
        """Wrap an engine.

        Args:
            engine: encodes the batches.
            metrics: counts batch sizes.
            max_batch: texts or images per batch.
        """
        self._engine = engine
        self._texts = MicroBatcher(
            self._encode_texts, name="texts", metrics=metrics, max_batch=max_batch
        )
        self._images = MicroBatcher(
            self._encode_images, name="images", metrics=metrics, max_batch=max_batch
        )

    @property
    def device(self) -> str:
        """The engine's device."""
        return self._engine.device

    @property
    def precision(self) -> str:
        """The engine's precision."""
        return self._engine.precision

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._engine.dim

    def encode_pixels(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n dim"]:
        """Encode images of the checkpoint's size to unit vectors."""
        return self._stack(self._images.submit_all(list(pixels)))

    def encode_patches(
        self, pixels: UInt8[np.ndarray, "n h w 3"], attention: PatchAttention
    ) -> Float32[np.ndarray, "n token dim"]:
        """Encode images and each of their patches to unit vectors, without waiting for others."""
        return self._engine.encode_patches(pixels, attention)

    def encode_tokens(self, tokens: Int[np.ndarray, "n token"]) -> Float32[np.ndarray, "n dim"]:
        """Encode tokenised texts to unit vectors."""
        return self._stack(self._texts.submit_all(list(tokens)))

    def close(self) -> None:
        """Finish the pending batches."""
        self._texts.close()
        self._images.close()

    def _stack(self, vectors: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(vectors) if vectors else np.empty((0, self.dim), dtype=np.float32)

    def _encode_texts(self, tokens: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        length = max(len(text) for text in tokens)
        # tokens after a text's end have no effect, so its last token may be repeated
        padded = [np.pad(text, (0, length - len(text)), mode="edge") for text in tokens]
        return list(self._engine.encode_tokens(np.stack(padded)))

    def _encode_images(self, pixels: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return list(self._engine.encode_pixels(np.stack(pixels)))
