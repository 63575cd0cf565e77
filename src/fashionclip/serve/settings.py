"""How a service is set up: where it listens, who may ask, and how much of everything."""

from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits, keys and addresses of one service."""

    host: str = "127.0.0.1"
    port: int = 8000
    model: str | None = None
    """A model to use in the place of the one that the index names; it must be the same."""
    device: str = "auto"
    precision: str = "auto"
    key_file: Path | None = None
    """Of ``serve.keys``; None lets everybody read and write."""
    allow_image_urls: bool = False
    allow_private: bool = False
    """Fetch image URLs from internal addresses too; for tests."""
    body_bytes: int = 20 * MB
    body_seconds: float = 15.0
    held_bytes: int = 400 * MB
    """All bodies together that are being read or answered."""
    pixels: int = 50 * MB
    text_chars: int = 2_000
    batch: int = 64
    """Inputs of one request."""
    k: int = 200
    offset: int = 10_000
    rate_per_minute: int = 600
    """Requests of one key, or of one address without keys; 0 for no limit."""
    burst: int = 120
    connections: int = 512
    """Requests being answered at once."""
    queue: int = 256
    """Requests that wait in one line (questions, pictures, changes); one more comes back later."""
    max_batch: int = 32
    """Texts, pictures or questions that are worked on at once; 1 is no batching."""
    head_seconds: float = 15.0
    """How long a connection may be silent before its first request, or between two."""
    write_seconds: float = 10.0
    """How long a write waits for another program that writes to the index."""
    shutdown_seconds: float = 30.0
    """How long the answers to what was accepted may take when the service is told to stop."""
