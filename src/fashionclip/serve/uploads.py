"""Images that visitors of the page search by, kept so that a URL can name them.

They are held in memory, and in a folder if there is one: then links to them survive a restart, and
several workers know them. Those that were used least recently go when there is no more room.
"""

import os
import re
import secrets
import threading
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.images.decode import thumbnail
from fashionclip.serve.cache import LRUCache
from fashionclip.serve.middleware import logs

UPLOAD_PX = 800
"""Longest side of an image as it is kept."""
MEMORY_BYTES = 64 << 20
FOLDER_BYTES = 512 << 20
TOKEN_BYTES = 12
KEY_FILE = "key"
_TOKEN = re.compile(rf"[0-9a-f]{{{2 * TOKEN_BYTES}}}")


class UploadedImages:
    """The uploaded images; safe from any thread, and from several processes over one folder."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
        folder_bytes: int = FOLDER_BYTES,
    ) -> None:
        """Open the folder, which is made if it is not there; without one, memory must do.

        Args:
            folder: where images are kept; only this user can read it.
            memory_bytes: of all images in memory.
            folder_bytes: of all images in the folder.
        """
        self._cache: LRUCache[str, bytes] = LRUCache(memory_bytes, size_of=len)
        self._folder, self._folder_bytes = folder, folder_bytes
        self._lock = threading.Lock()  # held while images are deleted
        self._key = secrets.token_bytes(32)  # so that a token cannot be computed from an image
        if folder is not None:
            try:
                self._key = _shared_key(folder)
            except OSError as exc:
                self._give_up(exc)

    def put(self, image: bytes, *, max_pixels: int) -> str:
        """Keep an image as an upright JPEG of at most ``UPLOAD_PX``, without metadata.

        Args:
            image: encoded, of any common format.
            max_pixels: larger images are rejected before they are decoded.

        Returns:
            The token that names it; the same image has the same token.

        Raises:
            ImageError: it is not an image, or too large.
        """
        jpeg = thumbnail(image, max_px=UPLOAD_PX, max_pixels=max_pixels)
        token = blake2b(jpeg, digest_size=TOKEN_BYTES, key=self._key).hexdigest()
        self._cache.put(token, jpeg)
        if self._folder is not None:
            try:
                path = self._folder / f"{token}.jpg"
                if not path.exists():
                    write_whole(path, jpeg, mode=0o600)
                self._delete_oldest()
            except OSError as exc:
                self._give_up(exc)
        return token

    def get(self, token: str) -> bytes | None:
        """The image of a token, which counts as a use; None if it has gone for newer ones."""
        jpeg = self._cache.get(token)
        if self._folder is not None and _TOKEN.fullmatch(token):
            path = self._folder / f"{token}.jpg"
            with suppress(OSError):
                if jpeg is None:
                    jpeg = path.read_bytes()
                    self._cache.put(token, jpeg)
                os.utime(path)
        return jpeg

    def _delete_oldest(self) -> None:
        """Delete what was used least recently, so that the folder has room."""
        folder = self._folder
        if folder is None:
            return
        with self._lock:
            files = []
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):  # another worker has deleted it
                    if entry.name != KEY_FILE and entry.is_file(follow_symlinks=False):
                        stat = entry.stat()
                        files.append((stat.st_mtime, stat.st_size, entry.path))
            excess = sum(size for _, size, _ in files) - self._folder_bytes
            for _, size, path in sorted(files)[:-1]:
                if excess <= 0:
                    break
                Path(path).unlink(missing_ok=True)
                excess -= size

    def _give_up(self, exc: OSError) -> None:
        logs.warn(
            f"uploaded pictures cannot be kept in {self._folder}: {exc.strerror or exc}; they are "
            "held in memory until the service stops"
        )
        self._folder = None


def _shared_key(folder: Path) -> bytes:
    """The key of a folder's tokens, made by the first process that asks for it.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / KEY_FILE
    if not path.exists():
        own = folder / f"{KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
        write_whole(own, secrets.token_bytes(32), mode=0o600)
        with suppress(FileExistsError):  # another process was faster
            path.hardlink_to(own)
        own.unlink()
    return path.read_bytes()
