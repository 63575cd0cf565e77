"""The service of each request: the one that was open when the request began.

A service can be replaced by another one, over another store or model, while requests are answered:
a request keeps the service that it began with, and a replaced service is closed when the last of
its requests has been answered.
"""

import gc
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar

from fashionclip.serve.middleware.limits import App, Receive, Scope, Send
from fashionclip.serve.service import SearchService

_OF_REQUEST: ContextVar[SearchService | None] = ContextVar("service_of_request", default=None)


class Services:
    """The service that answers now, and those that still have requests to answer."""

    def __init__(self, service: SearchService) -> None:
        """Start with one service, which ``close`` closes."""
        self._newest = service
        self._n_requests: Counter[SearchService] = Counter()
        self._closing: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.fault = ""
        """Why the store that is to answer cannot be opened; empty if it answers."""
        self.is_stopping: Callable[[], bool] = lambda: False
        """Whether the whole service is stopping, and not this worker alone."""

    @property
    def newest(self) -> SearchService:
        """The service of the requests that begin now."""
        return self._newest

    @property
    def current(self) -> SearchService:
        """The service of this request; outside of requests, the newest."""
        return _OF_REQUEST.get() or self._newest

    def replace(self, service: SearchService) -> None:
        """Let another service answer every request that begins from now on."""
        with self._lock:
            before, self._newest = self._newest, service
            before.stop_following()
            if not self._n_requests[before]:
                self._close_later(before)

    def of_requests(self, app: App) -> App:
        """Wrap an app so that each of its requests has one service from beginning to end."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            with self._lock:
                service = self._newest
                self._n_requests[service] += 1
            token = _OF_REQUEST.set(service)
            try:
                await app(scope, receive, send)
            finally:
                _OF_REQUEST.reset(token)
                with self._lock:
                    self._n_requests[service] -= 1
                    if service is not self._newest and not self._n_requests[service]:
                        self._close_later(service)

        return answer

    def close(self) -> None:
        """Close every service, after what is pending."""
        self._newest.close()
        for thread in self._closing:
            thread.join()

    def _close_later(self, service: SearchService) -> None:
        """Close a replaced service in a thread, since that waits for its threads to end."""
        del self._n_requests[service]
        self._closing = [thread for thread in self._closing if thread.is_alive()]
        thread = threading.Thread(target=_close, args=[service], name="fashionclip-close")
        self._closing.append(thread)
        thread.start()


def _close(service: SearchService) -> None:
    service.close()
    del service
    gc.collect()  # its index and model, which refer to each other, may be most of the memory
