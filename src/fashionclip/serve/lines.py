"""Where requests wait for a thread: so many are worked on, so many more wait, and no further one.

Questions, pictures from elsewhere and changes wait in lines of their own, so that a slow web
server, or another program that holds the index, keeps no search waiting. Searches by words alone,
which are most, are worked on together: one thread takes all that have come meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from fashionclip.errors import BusyError, FilterError, ProductNotFoundError, StoreError
from fashionclip.serve import logs
from fashionclip.serve.metrics import Metrics

T = TypeVar("T")
R = TypeVar("R")


class Line:
    """Some threads and those who wait for them; used from the event loop alone."""

    def __init__(self, name: str, metrics: Metrics, *, threads: int, most: int) -> None:
        """Open it.

        Args:
            name: what waits here, for the figures.
            metrics: told how many are in it.
            threads: requests that are worked on at once.
            most: requests in it at once, those that are worked on included.
        """
        self._name, self._metrics, self._most = name, metrics, most
        self._in_it = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"fashionclip-{name}")

    async def do(self, work: Callable[..., T], *args: object) -> T:
        """Do some work in a thread; what is wrong with the index is logged as well as raised.

        Raises:
            BusyError: the line is full.
            StoreError: as the work says; and whatever else it raises.
        """
        _check_room(self._in_it, self._most)
        self._count(1)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        except StoreError as exc:
            if not isinstance(exc, FilterError | ProductNotFoundError):
                logs.note(str(exc))  # clients are not told where the index lies
            raise
        finally:
            self._count(-1)

    def close(self) -> None:
        """Finish what was begun."""
        self._threads.shutdown()

    def _count(self, change: int) -> None:
        self._in_it += change
        self._metrics.queued(self._name, self._in_it)


class SharedLine(Generic[T, R]):
    """A line in which those who wait are worked on together; used from the event loop alone.

    Nobody waits for others to come: a batch is whoever has come while the one before was worked
    on. A lone request goes to the thread at once.
    """

    def __init__(
        self,
        name: str,
        metrics: Metrics,
        work: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        at_once: int,
        most: int,
    ) -> None:
        """Open it.

        Args:
            name: what waits here, for the figures.
            metrics: told how many are in it, and the size of every batch.
            work: gives each request its answer, or what is wrong with it.
            at_once: requests in a batch, at most.
            most: requests in it at once, those that are worked on included.
        """
        self._name, self._metrics, self._most = name, metrics, most
        self._work, self._at_once = work, at_once
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._in_it = 0
        self._is_working = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"fashionclip-{name}")

    async def do(self, asked: T) -> R:
        """Have a request worked on.

        Raises:
            BusyError: the line is full; and whatever is wrong with the request.
        """
        _check_room(self._in_it, self._most)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._waiting.append((asked, answer))
        self._count(1)
        if not self._is_working:
            self._is_working = True
            loop.call_soon(
                self._begin, loop
            )  # what has arrived by the end of this turn comes along
        try:
            return await answer
        finally:
            self._count(-1)

    def close(self) -> None:
        """Finish what was begun."""
        self._thread.shutdown()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = [self._waiting.popleft() for _ in range(min(self._at_once, len(self._waiting)))]
        self._metrics.batch(self._name, len(batch))
        self._thread.submit(self._work_on, loop, batch)

    def _work_on(
        self, loop: asyncio.AbstractEventLoop, batch: list[tuple[T, asyncio.Future[R]]]
    ) -> None:
        answers: Sequence[R | Exception]
        try:
            answers = self._work([asked for asked, _ in batch])
        except Exception as exc:  # whoever waits must hear of it
            answers = [exc] * len(batch)
        loop.call_soon_threadsafe(self._finish, loop, batch, answers)

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[tuple[T, asyncio.Future[R]]],
        answers: Sequence[R | Exception],
    ) -> None:
        if self._waiting:
            self._begin(loop)
        else:
            self._is_working = False
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():  # its client has left
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _count(self, change: int) -> None:
        self._in_it += change
        self._metrics.queued(self._name, self._in_it)


def _check_room(in_it: int, most: int) -> None:
    """Turn away whoever would make a line too long.

    Raises:
        BusyError: it is full.
    """
    if in_it >= most:
        message = f"more than {most} requests are waiting; try again shortly"
        raise BusyError(message)
