"""Work that arrives together is done together: calls from many threads become one call.

No call waits for others to come: while one batch is being worked on, the next one gathers. So a
single request is as quick as without batching, and under load the batches grow by themselves.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float32, Int, UInt8

from fashionclip.engines import Engine
from fashionclip.errors import ServiceError
from fashionclip.serve.metrics import Metrics

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """A thread that works on what is handed in, several at a time, in the order of arrival."""

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]], *, most: int, name: str) -> None:
        """Start the thread.

        Args:
            work: takes up to ``most`` items and gives a result for each.
            most: items that are worked on at once, at least 1.
            name: of the thread.
        """
        self._work, self._most = work, most
        self._waiting: deque[tuple[T, Future[R]]] = deque()
        self._has_work = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def hand_in(self, items: Sequence[T]) -> list[R]:
        """Have some items worked on; blocks until all of them are done.

        Raises:
            ServiceError: the batcher is closed; whatever else ``work`` raises.
        """
        futures: list[Future[R]] = [Future() for _ in items]
        with self._has_work:
            if self._is_closed:
                message = "the service is stopping"
                raise ServiceError(message)
            self._waiting.extend(zip(items, futures, strict=True))
            self._has_work.notify()
        return [future.result() for future in futures]

    def close(self) -> None:
        """Finish what was handed in, and take no more."""
        with self._has_work:
            self._is_closed = True
            self._has_work.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            try:
                results = self._work([item for item, _ in batch])
                for (_, future), result in zip(batch, results, strict=True):
                    future.set_result(result)
            except BaseException as exc:  # whoever waits must hear of it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(exc)

    def _next(self) -> list[tuple[T, Future[R]]]:
        """The next batch; empty when there will be none."""
        with self._has_work:
            while not self._waiting and not self._is_closed:
                self._has_work.wait()
            size = min(self._most, len(self._waiting))
            return [self._waiting.popleft() for _ in range(size)]


class BatchingEngine:
    """An engine whose calls from many threads are put together; see ``engines.Engine``."""

    def __init__(self, engine: Engine, metrics: Metrics, *, most: int) -> None:
        """Stand before an engine.

        Args:
            engine: does the work.
            metrics: told the size of every batch.
            most: texts or pictures that it is given at once.
        """
        self._engine, self._metrics = engine, metrics
        self._texts = Batcher(self._encode_texts, most=most, name="fashionclip-texts")
        self._pictures = Batcher(self._encode_pictures, most=most, name="fashionclip-pictures")

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
        """Encode pictures of the checkpoint's size to unit vectors, with those of others."""
        return self._stacked(self._pictures.hand_in(list(pixels)))

    def encode_tokens(self, tokens: Int[np.ndarray, "n token"]) -> Float32[np.ndarray, "n dim"]:
        """Encode tokenised texts to unit vectors, with those of others."""
        return self._stacked(self._texts.hand_in(list(tokens)))

    def close(self) -> None:
        """Finish what was handed in."""
        self._texts.close()
        self._pictures.close()

    def _stacked(self, vectors: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(vectors) if vectors else np.empty((0, self.dim), dtype=np.float32)

    def _encode_texts(self, tokens: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self._metrics.batch("texts", len(tokens))
        longest = max(len(text) for text in tokens)
        # what follows a text's end has no effect, so its last token may be repeated
        padded = [np.pad(text, (0, longest - len(text)), mode="edge") for text in tokens]
        return list(self._engine.encode_tokens(np.stack(padded)))

    def _encode_pictures(self, pixels: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self._metrics.batch("pictures", len(pixels))
        return list(self._engine.encode_pixels(np.stack(pixels)))
