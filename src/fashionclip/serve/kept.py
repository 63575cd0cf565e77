"""Bytes by name, kept in memory as long as there is room: those used longest ago go first."""

import threading
from collections import OrderedDict


class Kept:
    """A cache with a limit in bytes; safe from any thread."""

    def __init__(self, most_bytes: int) -> None:
        """Start empty.

        Args:
            most_bytes: of all that is kept together; the newest is kept however large it is.
        """
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, name: str, data: bytes) -> None:
        """Keep something under a name that stands for it alone."""
        with self._lock:
            self._held_bytes += len(data) - len(self._kept.pop(name, b""))
            self._kept[name] = data
            while self._held_bytes > self._most_bytes and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._held_bytes -= len(oldest)

    def get(self, name: str) -> bytes | None:
        """What is kept under a name; None if it has made room for others."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)
