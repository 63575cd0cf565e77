"""A model's vectors of images and texts, each encoded once and cached on disk.

An image is identified by a digest of its bytes, so renamed and moved files are found again, and an
image that occurs in twenty tasks is encoded once. A killed run continues from its cached vectors.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Literal
from uuid import uuid4

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from fashionclip.atomic import write_whole
from fashionclip.encoding import Encoder, ImageJob, local_encoder
from fashionclip.engines.io import to_unit
from fashionclip.errors import EvaluationError, FashionCLIPError, ImageFetchError
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.model import FashionCLIP
from fashionclip.text.captions import prompts, read_templates

Modality = Literal["images", "texts"]
Progress = Callable[[Modality, int], None]
"""Called with how many more images or texts are done, from the cache or encoded."""

DIGEST_BYTES = 16
FLUSH_INTERVAL_S = 20.0
"""A killed run loses at most the rows of this time."""
_IMAGES_PER_READ = 64  # whose bytes are held while their digests are made


class EmbeddingCache:
    """Rows of numbers by digest, in memory and, if there is a folder, on disk.

    Several processes may use one folder: each writes files of its own, which appear whole, and
    reads those that existed when it began. A damaged file costs its rows, which are computed again.
    """

    def __init__(self, folder: Path | None, name: str, width: int, dtype: DTypeLike) -> None:
        """Read the cached rows.

        Args:
            folder: None keeps the rows in memory only.
            name: first part of the files' names.
            width: numbers per row.
            dtype: type of the numbers.

        Raises:
            EvaluationError: the folder holds rows of another width or type under this name.
        """
        self.rows: dict[bytes, np.ndarray] = {}
        """By digest; add with ``put``."""
        self._folder, self._name, self._width = folder, name, width
        self._dtype = np.dtype(dtype)
        self._unwritten: dict[bytes, np.ndarray] = {}
        self._flushed = time.monotonic()
        for path in sorted(folder.glob(f"{name}-*.safetensors")) if folder else ():
            self.rows.update(self._read(path))

    def put(self, digest: bytes, row: np.ndarray) -> None:
        """Add one row; unwritten rows are flushed from time to time.

        Raises:
            EvaluationError: the folder cannot be written.
        """
        self.rows[digest] = self._unwritten[digest] = row
        if time.monotonic() - self._flushed > FLUSH_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Write the unwritten rows as one more file, which appears whole.

        Raises:
            EvaluationError: the folder cannot be written.
        """
        self._flushed = time.monotonic()
        if self._folder is None or not self._unwritten:
            return
        keys = np.frombuffer(b"".join(self._unwritten), np.uint8).reshape(-1, DIGEST_BYTES)
        rows = np.stack(list(self._unwritten.values())).astype(self._dtype, copy=False)
        path = self._folder / f"{self._name}-{uuid4().hex}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, save({"keys": keys, "rows": rows}))
        except (OSError, SafetensorError) as exc:
            message = f"the cache {self._folder} cannot be written ({exc}); name another folder"
            raise EvaluationError(message) from exc
        self._unwritten = {}

    def _read(self, path: Path) -> Iterator[tuple[bytes, np.ndarray]]:
        try:
            tensors = load_file(path)
            keys, rows = tensors["keys"], tensors["rows"]
        except (OSError, KeyError, SafetensorError):
            return
        if rows.ndim != 2 or rows.shape[1] != self._width or rows.dtype != self._dtype:
            message = (
                f"{path} holds rows of {rows.shape[-1]} {rows.dtype}, not {self._width} "
                f"{self._dtype}; delete {path.parent}"
            )
            raise EvaluationError(message)
        for key, row in zip(keys, rows, strict=True):
            yield key.tobytes(), row


class CachedEncoder:
    """One model's encoder: vectors come from memory, else from the cache on disk, else from it."""

    def __init__(
        self,
        model: FashionCLIP,
        folder: Path | None,
        *,
        policy: FetchPolicy | None = None,
        encoder: Encoder | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Open the model's part of a cache.

        Args:
            model: encodes what the cache lacks.
            folder: of the cache, shared by all models and runs; None keeps vectors in memory only.
            policy: how remote images may be fetched.
            encoder: who decodes and encodes the images; None for this process.
            progress: called as images and texts get done.

        Raises:
            EvaluationError: the cache holds vectors of another length under this model's name.
        """
        self.dim = model.dim
        self.logit_scale = model.logit_scale
        self.encoding_seconds = 0.0
        """Time spent in the model so far, decoding included."""
        self.unreadable: dict[str, str] = {}
        """Images that could not be read, by id, and why."""
        self._model = model
        self._encoder = encoder or local_encoder(model)
        self._policy = policy or FetchPolicy()
        self._progress = progress or (lambda modality, n: None)
        folder = model_folder(model, folder)
        self._images = EmbeddingCache(folder, "images", model.dim, np.float32)
        self._texts = EmbeddingCache(folder, "texts", model.dim, np.float32)
        self._digests: dict[ImageRef | str, bytes | None] = {}

    def encode_images(self, images: Sequence[ImageRef]) -> Float[np.ndarray, "image dim"]:
        """Unit vectors of images, float32; a row of NaN for an image that cannot be read.

        Raises:
            EvaluationError: the model gives NaN for an image that can be read.
        """
        cache = self._images
        digests = self.digests(images)
        lacking = {
            digest: image
            for digest, image in zip(digests, images, strict=True)
            if digest and digest not in cache.rows
        }
        self._progress("images", len(images) - len(lacking))
        begin = time.perf_counter()
        jobs = (ImageJob((image.source,)) for image in lacking.values())
        encoded = self._encoder(jobs, self._policy)
        for (digest, image), result in zip(lacking.items(), encoded, strict=True):
            if isinstance(result, FashionCLIPError):
                self._digests[_identity(image)] = None
                self.unreadable[image.image_id] = str(result)
            elif result.vector is not None:
                cache.put(digest, self._checked(result.vector, f"image {image.image_id}"))
            self._progress("images", 1)
        self.encoding_seconds += time.perf_counter() - begin
        cache.flush()
        blank = np.full(self.dim, np.nan, np.float32)
        rows = [cache.rows.get(digest, blank) if digest else blank for digest in digests]
        return np.stack(rows) if rows else np.empty((0, self.dim), np.float32)

    def encode_text(
        self, texts: Sequence[str], *, templates: str | Sequence[str] | None = None
    ) -> Float[np.ndarray, "text dim"]:
        """Unit vectors of texts, float32; with templates, the unit mean of each text's prompts.

        Raises:
            EvaluationError: the model gives NaN for a text.
        """
        cache = self._texts
        filled = [prompt for text in texts for prompt in prompts(text, templates)]
        digests = [_digest(b"text", prompt.encode("utf-8", "surrogatepass")) for prompt in filled]
        lacking = {
            digest: prompt
            for digest, prompt in zip(digests, filled, strict=True)
            if digest not in cache.rows
        }
        begin = time.perf_counter()
        vectors = self._model.encode_text(lacking.values())
        self.encoding_seconds += time.perf_counter() - begin
        for (digest, prompt), vector in zip(lacking.items(), vectors, strict=True):
            cache.put(digest, self._checked(vector, f"text '{prompt[:60]}'"))
        cache.flush()
        self._progress("texts", len(texts))
        n_prompts = len(read_templates(templates))
        if not filled:
            return np.empty((0, self.dim), np.float32)
        found = np.stack([cache.rows[digest] for digest in digests])
        if n_prompts == 1:
            return found
        return to_unit(found.reshape(-1, n_prompts, self.dim).mean(axis=1))

    def digests(self, images: Sequence[ImageRef]) -> list[bytes | None]:
        """A digest of each image's bytes or pixels; None for one that cannot be fetched."""
        unknown = list(dict.fromkeys(i for i in images if _identity(i) not in self._digests))
        with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
            for start in range(0, len(unknown), _IMAGES_PER_READ):
                some = unknown[start : start + _IMAGES_PER_READ]
                for image, found in zip(some, pool.map(self._read_digest, some), strict=True):
                    if isinstance(found, ImageFetchError):
                        self.unreadable[image.image_id] = str(found)
                    self._digests[_identity(image)] = found if isinstance(found, bytes) else None
        return [self._digests[_identity(image)] for image in images]

    def forget(self, images: Sequence[ImageRef]) -> None:
        """Let go of images that will not be asked for again, with their pixels; not of vectors."""
        for image in images:
            self._digests.pop(_identity(image), None)

    def _read_digest(self, image: ImageRef) -> bytes | ImageFetchError:
        try:
            return image_digest(image, policy=self._policy)
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


def model_folder(model: FashionCLIP, folder: Path | None) -> Path | None:
    """The part of a cache folder that holds one model's vectors; None where there is no folder."""
    engine = model.engine
    name = f"{model.fingerprint}-{engine.device}-{engine.precision}".replace(":", "-")
    return folder / name if folder else None


def image_digest(image: ImageRef, *, policy: FetchPolicy | None = None) -> bytes:
    """16 bytes that identify an image's encoded bytes, or its pixels if it is an array.

    Raises:
        ImageFetchError: it cannot be fetched.
    """
    source = image.source
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


def _identity(image: ImageRef) -> ImageRef | str:
    """What two references to one file share, so that it is read only once."""
    return str(image.source) if isinstance(image.source, str | Path) else image
