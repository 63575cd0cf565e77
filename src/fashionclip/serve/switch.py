"""A service over an alias goes with it to another store, without losing a request.

The alias is read twice a second. The store that it names is opened, and its model with it, while
the one before answers. One that cannot be opened changes nothing, and is tried again later.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fashionclip.errors import BusyError, FashionCLIPError
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.store import shown_uri
from fashionclip.store.alias import is_alias, resolve, write_alias

POLL_S = 0.5  # between looks at the alias
LOOK_S = 1.0  # that a look at the alias takes at most, on a machine under load
RETRY_S = 10.0  # between tries to open the same store


@dataclass(frozen=True, slots=True)
class Switched:
    """The outcome of a switch."""

    old: str
    """The store that answered before, as the alias's folder sees it, without a password."""
    new: str
    """The store that answers now."""


class Switch:
    """Follows an alias, and moves it; safe from any thread."""

    def __init__(
        self,
        alias: Path,
        store: str,
        services: Services,
        open_service: Callable[[str], SearchService],
        metrics: Metrics,
        *,
        allow_any_store: bool = False,
    ) -> None:
        """Follow an alias from now on.

        Args:
            alias: the alias.
            store: the address of the store that answers now.
            services: whose service is replaced.
            open_service: opens a store and its model.
            metrics: counts switches.
            allow_any_store: whether ``to`` takes stores that are not beside the alias.
        """
        self._alias, self._store = alias, store
        self._services, self._open, self._metrics = services, open_service, metrics
        self._allow_any_store = allow_any_store
        self._failed_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._follower = threading.Thread(
            target=self._follow, name="fashionclip-alias", daemon=True
        )
        self._follower.start()

    def to(self, name: str) -> Switched:
        """Open another store, let the alias stand for it, and let it answer.

        Args:
            name: the store, as the alias's folder sees it.

        Raises:
            BusyError: another switch is going on.
            FashionCLIPError: the store or its model cannot be opened, or the alias not be written;
                then nothing has changed.
            ValueError: this may not be switched to.
        """
        if not self._lock.acquire(timeout=LOOK_S):
            message = "another switch is going on; try again when it is done"
            raise BusyError(message)
        try:
            store, old = self._address_of(name), self._store
            if store != old:
                service = self._open(store)
                try:
                    write_alias(self._alias, store)
                except FashionCLIPError:
                    service.close()
                    raise
                self._replace(service, store)
            return Switched(self._shown(old), self._shown(store))
        finally:
            self._lock.release()

    def close(self) -> None:
        """Follow no more."""
        self._is_closed.set()
        self._follower.join()

    def _follow(self) -> None:
        while not self._is_closed.wait(POLL_S):
            with self._lock:
                try:
                    self._go_along()
                except FashionCLIPError as exc:
                    self._set_fault(str(exc))
                except Exception as exc:  # an unexpected error must not end the thread
                    logs.failure("", exc)
                    self._set_fault(type(exc).__name__)

    def _go_along(self) -> None:
        """Go to the store that the alias names, unless it could not be opened a moment ago.

        Raises:
            FashionCLIPError: the alias or its store cannot be read.
        """
        store = resolve(self._alias)
        if store == self._store:
            self._failed_at.clear()
            self._set_fault("")
        elif time.monotonic() >= self._failed_at.get(store, 0.0) + RETRY_S:
            try:
                service = self._open(store)
            except Exception:
                self._failed_at = {store: time.monotonic()}
                self._metrics.switched(has_failed=True)
                raise
            self._replace(service, store)

    def _replace(self, service: SearchService, store: str) -> None:
        logs.note(f"{self._alias.name}: {self._shown(self._store)} -> {self._shown(store)}")
        self._store = store
        self._failed_at.clear()
        self._set_fault("")
        self._metrics.switched(has_failed=False)
        self._services.replace(service)

    def _address_of(self, name: str) -> str:
        """The address of a store that a request names.

        Raises:
            ValueError: it is not beside the alias, and may not be elsewhere.
        """
        is_beside = Path(name).name == name and name.isprintable() and name not in {"", ".", ".."}
        if not is_beside and not self._allow_any_store:
            message = f"{name!r:.100} is not the name of a store beside the alias"
            raise ValueError(message)
        address = name if "://" in name else str(self._alias.parent / name)
        if is_alias(address):
            message = f"{name} is an alias; name a store"
            raise ValueError(message)
        return address

    def _shown(self, store: str) -> str:
        """A store's address as messages show it: a name, where it is beside the alias."""
        if "://" not in store and Path(store).parent == self._alias.parent:
            return Path(store).name
        return shown_uri(store)

    def _set_fault(self, fault: str) -> None:
        if fault and fault != self._services.fault:
            logs.warn(f"the store before goes on answering: {fault}")
        self._services.fault = fault
        self._metrics.switch_state(has_failed=bool(fault))
