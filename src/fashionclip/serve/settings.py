"""Settings of one service: address, keys and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Address, keys and limits."""

    host: str = "127.0.0.1"
    port: int = 8000
    model: str | None = None
    """The model under another name than the store's; it must be the same model."""
    device: str = "auto"
    precision: str = "auto"
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """Credentials, endpoint and region of object storage, for the store and its images."""
    workers: int = 1
    """Processes that answer requests; each holds its own copy of the index."""
    read_only: bool = False
    """Whether the service only reads its store, as a replica does; writes are answered with 403."""
    allow_any_store: bool = False
    """Whether ``POST /v1/admin/switch`` may name a store that is not beside the alias."""
    uploads: Path | None = None
    """Folder of the pictures that visitors search with; without one they are held in memory."""
    snapshot_dir: Path | None = None
    """Folder on local disk in which the index is saved, so that the next start need not read it."""
    cors_origins: tuple[str, ...] = ()
    """Web sites whose scripts may read the answers, such as ``https://shop.example``."""
    key_file: Path | None = None
    """See ``middleware.keys``; without it, anyone who can connect can read and write."""
    allow_image_urls: bool = False
    allow_private: bool = False
    """Fetch image URLs from internal addresses too; for tests."""
    body_bytes: int = 20 * MB
    body_seconds: float = 15.0
    """Time limit for receiving a body."""
    held_bytes: int = 400 * MB
    """Total size of all request bodies in memory."""
    pixels: int = 50 * MB
    """Pixels of one image."""
    text_chars: int = 2_000
    batch: int = 64
    """Inputs or products of one request."""
    k: int = 200
    offset: int = 10_000
    rate_per_minute: int = 600
    """Requests per key, or per address without keys; 0 for no limit."""
    burst: int = 120
    """Requests that may exceed the rate for a moment."""
    connections: int = 512
    """Requests in progress."""
    queue: int = 256
    """Pending requests of one queue (searches, images, writes); more are rejected with 429."""
    max_batch: int = 32
    """Texts, images or searches that are computed together; 1 disables batching."""
    head_seconds: float = 15.0
    """Time limit for a request's head, and for a client that stops reading its answer."""
    write_seconds: float = 10.0
    """How long a write waits for another writer of the store."""
    max_stale_seconds: float = 300.0
    """How long a service that cannot read its store is ready all the same."""
    drain_seconds: float = 1.0
    """How long a service that is told to stop goes on while ``/ready`` says so."""
    shutdown_seconds: float = 30.0
    """How long a stopping service takes to answer the requests that it has accepted."""
