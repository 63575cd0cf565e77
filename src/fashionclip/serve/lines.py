"""Where requests wait for a thread: so many are worked on, so many more wait, and no further one.

Questions, pictures from elsewhere and changes wait in lines of their own, so that a slow web
server, or another program that holds the index, keeps no search waiting.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fashionclip.errors import BusyError, FilterError, ProductNotFoundError, StoreError
from fashionclip.serve import logs
from fashionclip.serve.metrics import Metrics

T = TypeVar("T")


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
        if self._in_it >= self._most:
            message = f"more than {self._most} requests are waiting; try again shortly"
            raise BusyError(message)
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
