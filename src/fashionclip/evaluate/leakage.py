"""The leakage check: test images and texts compared with digests of the training data.

A checkpoint folder may hold ``trained-on.safetensors``: for each training image a digest of its
bytes and its perceptual hash, for each training text a digest of its words. Neither images nor
texts can be recovered from them.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fashionclip.checkpoint.folder import TRAINED_ON
from fashionclip.errors import EvaluationError, ImageError, ImageFetchError
from fashionclip.evaluate.cache import DIGEST_BYTES, EmbeddingCache, image_digest
from fashionclip.evaluate.tasks import ImageRef, Retrieval, Task, scored_images
from fashionclip.images.decode import open_image
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.images.near_duplicates import DECODE_PX, HASH_BYTES, HashIndex, perceptual_hash

_SAMPLES_PER_BATCH = 512
_TENSORS = {"images": "pictures", "hashes": "looks", "texts": "texts"}  # names in the file
_NO_HASHES = np.empty((0, HASH_BYTES), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Digests of what a model was trained on."""

    description: str
    """In words: which data, and which part of it."""
    images: frozenset[bytes]
    """``image_digest`` of each training image."""
    hashes: UInt8[np.ndarray, "image 44"]
    """Their perceptual hashes."""
    texts: frozenset[bytes]
    """``text_digest`` of each training text."""

    @classmethod
    def union(cls, parts: Sequence["TrainingData"]) -> "TrainingData":
        """One record of several trainings: of a model, and of its fine-tuning."""
        return cls(
            description="; ".join(dict.fromkeys(part.description for part in parts)),
            images=frozenset().union(*(part.images for part in parts)),
            hashes=np.unique(np.concatenate([_NO_HASHES, *(p.hashes for p in parts)]), axis=0),
            texts=frozenset().union(*(part.texts for part in parts)),
        )


@dataclass(frozen=True, slots=True)
class Leakage:
    """How much of a task the model has seen."""

    same_file: int
    """Images whose bytes are a training image's."""
    near_duplicate: int
    """Other images that are near duplicates of a training image."""
    same_text: int
    """Texts (queries, or the images' captions) whose words are a training text's."""

    def __str__(self) -> str:
        """One clause for a report."""
        return (
            f"{self.same_file:,} pictures are files of the training data, "
            f"{self.near_duplicate:,} more are near duplicates of one, {self.same_text:,} texts "
            "are training texts"
        )


def digest_training_data(
    samples: Iterable[tuple[ImageRef | None, Sequence[str]]],
    *,
    description: str,
    policy: FetchPolicy | None = None,
) -> TrainingData:
    """Make the digests of training data: pairs of an image, or None, and the texts beside it.

    Images that cannot be read were not trained on and are skipped.
    """
    hashes: dict[bytes, np.ndarray] = {}
    texts: set[bytes] = set()

    def digest(sample: tuple[ImageRef | None, Sequence[str]]) -> tuple[bytes, np.ndarray] | None:
        if sample[0] is None:
            return None
        try:
            image = _loaded(sample[0], policy)
            return image_digest(image), _hash_of(image)
        except (ImageFetchError, ImageError):
            return None

    stream = iter(samples)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := list(islice(stream, _SAMPLES_PER_BATCH)):
            texts.update(text_digest(text) for _, words in some for text in words if text.strip())
            for found in pool.map(digest, some):
                if found:
                    hashes.setdefault(*found)
    stacked = np.stack(list(hashes.values())) if hashes else _NO_HASHES
    return TrainingData(description, frozenset(hashes), stacked, frozenset(texts))


def write_training_data(data: TrainingData, folder: Path) -> None:
    """Write the digests into a checkpoint folder.

    Raises:
        EvaluationError: the file cannot be written.
    """
    tensors = {_TENSORS["hashes"]: data.hashes}
    for field, digests in (("images", data.images), ("texts", data.texts)):
        joined = np.frombuffer(b"".join(sorted(digests)), np.uint8)
        tensors[_TENSORS[field]] = joined.reshape(-1, DIGEST_BYTES)
    try:
        blob = save(tensors, metadata={"description": data.description})
        (folder / TRAINED_ON).write_bytes(blob)
    except (OSError, SafetensorError) as exc:
        message = f"{folder / TRAINED_ON} cannot be written ({exc}); choose another folder"
        raise EvaluationError(message) from exc


def read_training_data(folder: Path) -> TrainingData | None:
    """Read a checkpoint folder's digests; None if it has none.

    Raises:
        EvaluationError: the file is damaged.
    """
    path = folder / TRAINED_ON
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="np") as file:
            description = (file.metadata() or {})["description"]
            images, hashes, texts = (file.get_tensor(name) for name in _TENSORS.values())
    except (OSError, KeyError, SafetensorError) as exc:
        message = f"{path} cannot be read ({exc}); fetch the checkpoint again"
        raise EvaluationError(message) from exc
    digests = [frozenset(row.tobytes() for row in rows) for rows in (images, texts)]
    return TrainingData(description, digests[0], hashes, digests[1])


class LeakageCheck:
    """Compares test images and texts with training data; perceptual hashes are cached."""

    def __init__(
        self,
        training: Sequence[TrainingData],
        cache: Path | None,
        *,
        policy: FetchPolicy | None = None,
    ) -> None:
        """Index the training data of one model.

        Args:
            training: one or several records; without any, nothing is found.
            cache: folder for the hashes of test images; None keeps them in memory.
            policy: how remote images may be fetched.

        Raises:
            EvaluationError: the cache is damaged.
        """
        self._images = frozenset().union(*(data.images for data in training))
        self._texts = frozenset().union(*(data.texts for data in training))
        self._index = HashIndex(np.concatenate([_NO_HASHES, *(d.hashes for d in training)]))
        self._cache = EmbeddingCache(cache, "hashes", HASH_BYTES, np.uint8)
        self._found: dict[bytes, bool] = {}
        self._policy = policy

    def seen_in(
        self, task: Task, digests: Sequence[bytes | None]
    ) -> tuple[Bool[np.ndarray, " item"], Leakage]:
        """Mark each image, or each query, that the model was trained on or on an answer of.

        Args:
            task: whose items are marked.
            digests: ``image_digest`` of its ``scored_images``.
        """
        images = scored_images(task)
        texts = task.queries if isinstance(task, Retrieval) else [i.caption for i in images]
        same_file = self.is_same_file(digests)
        near_duplicate = self.is_near_duplicate(images, digests) & ~same_file
        same_text = self.is_same_text(texts)
        leakage = Leakage(int(same_file.sum()), int(near_duplicate.sum()), int(same_text.sum()))
        seen = same_file | near_duplicate
        if isinstance(task, Retrieval):
            answers = np.array([seen[rows].any() for rows in task.relevant], dtype=bool)
            seen = same_text | answers
        return seen, leakage

    def mark(
        self, images: Sequence[ImageRef], digests: Sequence[bytes | None]
    ) -> Bool[np.ndarray, " image"]:
        """Mark each image that the model was trained on, as it is or as a near duplicate.

        Args:
            images: to mark.
            digests: ``image_digest`` of each.
        """
        return np.asarray(self.is_same_file(digests) | self.is_near_duplicate(images, digests))

    def is_same_file(self, digests: Sequence[bytes | None]) -> Bool[np.ndarray, " image"]:
        """Which images are training images, byte for byte."""
        return np.array([digest in self._images for digest in digests], dtype=bool)

    def is_near_duplicate(
        self, images: Sequence[ImageRef], digests: Sequence[bytes | None]
    ) -> Bool[np.ndarray, " image"]:
        """Which images are near duplicates of a training image; unreadable ones are not."""
        if not len(self._index):
            return np.zeros(len(images), dtype=bool)
        named = zip(digests, images, strict=True)
        unknown = {digest: im for digest, im in named if digest and digest not in self._found}
        self._hash(unknown)
        hashed = [digest for digest in unknown if digest in self._cache.rows]
        if hashed:
            found = self._index.contains(np.stack([self._cache.rows[digest] for digest in hashed]))
            self._found |= zip(hashed, found.tolist(), strict=True)
        return np.array([bool(digest and self._found.get(digest)) for digest in digests], bool)

    def is_same_text(self, texts: Sequence[str]) -> Bool[np.ndarray, " text"]:
        """Which texts are training texts, but for case, accents' encoding and punctuation."""
        return np.array([bool(t.strip()) and text_digest(t) in self._texts for t in texts], bool)

    def _hash(self, images: Mapping[bytes, ImageRef]) -> None:
        lacking = {digest: im for digest, im in images.items() if digest not in self._cache.rows}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            hashes = pool.map(self._try_hash, lacking.values())
            for digest, image_hash in zip(lacking, hashes, strict=True):
                if image_hash is not None:
                    self._cache.put(digest, image_hash)
        self._cache.flush()

    def _try_hash(self, image: ImageRef) -> np.ndarray | None:
        try:
            return _hash_of(_loaded(image, self._policy))
        except (ImageFetchError, ImageError):
            return None


def text_digest(text: str) -> bytes:
    """16 bytes that identify a text's words, whatever their case, punctuation and spacing."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return blake2b(" ".join(words).encode(), digest_size=DIGEST_BYTES).digest()


def _loaded(image: ImageRef, policy: FetchPolicy | None) -> ImageRef:
    """The same image with its bytes, or its pixels, as the source."""
    if not isinstance(image.source, str | Path):
        return image
    data = read_image_bytes(str(image.source), policy=policy or FetchPolicy())
    return replace(image, source=data)


def _hash_of(image: ImageRef) -> np.ndarray:
    assert not isinstance(image.source, str | Path)
    return perceptual_hash(open_image(image.source, target_px=DECODE_PX))
