"""A model's vectors for pictures and words, each computed once and kept on disk.

A picture is known by a digest of its bytes, so renamed and moved files are found again, and one
picture in twenty tasks is encoded once. What a killed run had encoded is there for the next one.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from fashionclip.engines.io import to_unit
from fashionclip.errors import EvaluationError, FashionCLIPError, ImageFetchError
from fashionclip.evaluate.shelf import DIGEST_BYTES, Shelf
from fashionclip.evaluate.tasks import Picture
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.model import FashionCLIP
from fashionclip.text.captions import prompts, read_templates

What = Literal["pictures", "texts"]
Progress = Callable[[What, int], None]
"""Called with how many more pictures or texts are done, from the cache or encoded."""

READ_AT_ONCE = 64  # pictures whose bytes are held while their digests are made


class CachedVectors:
    """The vectors of one model: from memory, else from the cache on disk, else encoded now."""

    def __init__(
        self,
        model: FashionCLIP,
        folder: Path | None,
        *,
        policy: FetchPolicy | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Open the model's part of a cache.

        Args:
            model: encodes what the cache lacks.
            folder: of the cache, shared by all models and runs; None keeps vectors in memory only.
            policy: how remote pictures may be fetched.
            progress: called as pictures and texts get done.

        Raises:
            EvaluationError: the cache holds vectors of another length under this model's name.
        """
        self.dim = model.dim
        self.logit_scale = model.logit_scale
        self.encoding_seconds = 0.0
        """Time spent in the model, decoding included, so far."""
        self.unreadable: dict[str, str] = {}
        """Pictures that could not be read, by id, and why."""
        self._model = model
        self._policy = policy or FetchPolicy()
        self._progress = progress or (lambda what, n: None)
        engine = model.engine
        name = f"{model.fingerprint}-{engine.device}-{engine.precision}".replace(":", "-")
        self._shelves: Mapping[What, Shelf] = {
            "pictures": Shelf(folder and folder / name, "pictures", model.dim, np.float32),
            "texts": Shelf(folder and folder / name, "texts", model.dim, np.float32),
        }
        self._digests: dict[Picture | str, bytes | None] = {}

    def pictures(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "picture dim"]:
        """Unit vectors of pictures, float32; a row of NaN for a picture that cannot be read.

        Raises:
            EvaluationError: the model gives NaN for a picture that can be read.
        """
        shelf = self._shelves["pictures"]
        digests = self.digests(pictures)
        lacking = {
            digest: picture
            for digest, picture in zip(digests, pictures, strict=True)
            if digest and digest not in shelf.rows
        }
        self._progress("pictures", len(pictures) - len(lacking))
        begin = time.perf_counter()
        encoded = self._model.iter_images(
            (picture.source for picture in lacking.values()), policy=self._policy
        )
        for (digest, picture), vector in zip(lacking.items(), encoded, strict=True):
            if isinstance(vector, FashionCLIPError):
                self._digests[_place(picture)] = None
                self.unreadable[picture.picture_id] = str(vector)
            else:
                shelf.put(digest, self._checked(vector, f"picture {picture.picture_id}"))
            self._progress("pictures", 1)
        self.encoding_seconds += time.perf_counter() - begin
        shelf.flush()
        blank = np.full(self.dim, np.nan, np.float32)
        rows = [shelf.rows.get(digest, blank) if digest else blank for digest in digests]
        return np.stack(rows) if rows else np.empty((0, self.dim), np.float32)

    def texts(
        self, texts: Sequence[str], *, templates: str | Sequence[str] | None = None
    ) -> Float[np.ndarray, "text dim"]:
        """Unit vectors of texts, float32; with templates, the unit mean of each text's prompts.

        Raises:
            EvaluationError: the model gives NaN for a text.
        """
        shelf = self._shelves["texts"]
        words = [prompt for text in texts for prompt in prompts(text, templates)]
        digests = [_digest(b"text", word.encode("utf-8", "surrogatepass")) for word in words]
        lacking = {
            digest: word
            for digest, word in zip(digests, words, strict=True)
            if digest not in shelf.rows
        }
        begin = time.perf_counter()
        vectors = self._model.encode_text(lacking.values())
        self.encoding_seconds += time.perf_counter() - begin
        for (digest, word), vector in zip(lacking.items(), vectors, strict=True):
            shelf.put(digest, self._checked(vector, f"text '{word[:60]}'"))
        shelf.flush()
        self._progress("texts", len(texts))
        n_prompts = len(read_templates(templates))
        if not words:
            return np.empty((0, self.dim), np.float32)
        found = np.stack([shelf.rows[digest] for digest in digests])
        if n_prompts == 1:
            return found
        return to_unit(found.reshape(-1, n_prompts, self.dim).mean(axis=1))

    def digests(self, pictures: Sequence[Picture]) -> list[bytes | None]:
        """A digest of each picture's bytes or pixels; None for one that cannot be fetched."""
        unknown = list(dict.fromkeys(p for p in pictures if _place(p) not in self._digests))
        with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
            for start in range(0, len(unknown), READ_AT_ONCE):
                some = unknown[start : start + READ_AT_ONCE]
                for picture, found in zip(some, pool.map(self._read_digest, some), strict=True):
                    if isinstance(found, ImageFetchError):
                        self.unreadable[picture.picture_id] = str(found)
                    self._digests[_place(picture)] = found if isinstance(found, bytes) else None
        return [self._digests[_place(picture)] for picture in pictures]

    def _read_digest(self, picture: Picture) -> bytes | ImageFetchError:
        try:
            return picture_digest(picture, policy=self._policy)
        except ImageFetchError as error:
            return error

    def _checked(self, vector: np.ndarray, what: str) -> np.ndarray:
        if np.isfinite(vector).all():
            return vector
        message = (
            f"the model {self._model.name} gives NaN for {what}; its weights are damaged, or "
            "the precision is too low: try --precision float32"
        )
        raise EvaluationError(message)


def picture_digest(picture: Picture, *, policy: FetchPolicy | None = None) -> bytes:
    """16 bytes that stand for a picture's encoded bytes, or for its pixels if it is an array.

    Raises:
        ImageFetchError: it cannot be fetched.
    """
    source = picture.source
    if isinstance(source, np.ndarray):
        shape = f"{source.shape} {source.dtype}".encode()
        return _digest(b"pixels " + shape, np.ascontiguousarray(source).data)
    if isinstance(source, str | Path):
        source = read_image_bytes(str(source), policy=policy or FetchPolicy())
    return _digest(b"bytes", source)


def _digest(kind: bytes, data: bytes | memoryview) -> bytes:
    digest = blake2b(kind + b"\0", digest_size=DIGEST_BYTES)
    digest.update(data)
    return digest.digest()


def _place(picture: Picture) -> Picture | str:
    """What two pictures share that need be read only once."""
    return str(picture.source) if isinstance(picture.source, str | Path) else picture
