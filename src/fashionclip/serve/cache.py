"""A thread-safe LRU cache: thumbnails, uploaded images, facet counts, rate limits."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRUCache(Generic[K, V]):
    """Keeps the entries that were used last, up to a total size; safe from any thread."""

    def __init__(self, max_size: int, *, size_of: Callable[[V], int] = lambda _: 1) -> None:
        """Create an empty cache.

        Args:
            max_size: total size of all entries; the newest entry is kept even if it is larger.
            size_of: size of a value; by default every entry counts as 1.
        """
        self._max_size, self._size_of = max_size, size_of
        self._size = 0
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value of a key, which counts as a use; None if there is none."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Add or replace an entry, and drop the least recently used ones beyond the size."""
        with self._lock:
            if key in self._entries:
                self._size -= self._size_of(self._entries.pop(key))
            self._entries[key] = value
            self._size += self._size_of(value)
            while self._size > self._max_size and len(self._entries) > 1:
                _, oldest = self._entries.popitem(last=False)
                self._size -= self._size_of(oldest)
