"""Was the model trained on this? Test pictures and texts against digests of the training data.

A checkpoint folder may hold ``trained-on.safetensors``: for each training picture a digest of its
bytes and its *look*, for each training text a digest of its words. Nothing can be read back from
them. Copies that were resized or encoded again keep their look.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fashionclip.checkpoint.folder import TRAINED_ON
from fashionclip.errors import EvaluationError, ImageError, ImageFetchError
from fashionclip.evaluate.embeddings import picture_digest
from fashionclip.evaluate.shelf import DIGEST_BYTES, Shelf
from fashionclip.evaluate.tasks import Picture
from fashionclip.images.decode import open_image
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.images.near_duplicates import DECODE_PX, HASH_BYTES, HashIndex, perceptual_hash

_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Digests of what a model was trained on."""

    description: str
    """In words: which data, and which part of it."""
    pictures: frozenset[bytes]
    """``picture_digest`` of each training picture."""
    looks: UInt8[np.ndarray, "picture 44"]
    texts: frozenset[bytes]
    """``text_digest`` of each training text."""

    @classmethod
    def union(cls, parts: Sequence["TrainingData"]) -> "TrainingData":
        """One record of several trainings: of a model and of what it was tuned on after that."""
        looks = np.concatenate([np.empty((0, HASH_BYTES), np.uint8), *(p.looks for p in parts)])
        return cls(
            description="; ".join(dict.fromkeys(part.description for part in parts)),
            pictures=frozenset().union(*(part.pictures for part in parts)),
            looks=np.unique(looks, axis=0),
            texts=frozenset().union(*(part.texts for part in parts)),
        )


@dataclass(frozen=True, slots=True)
class Leakage:
    """How much of a task the model has seen."""

    same_file: int
    """Pictures whose bytes are a training picture's."""
    same_look: int
    """Pictures that look like a training picture, though the bytes differ."""
    same_text: int
    """Texts (queries, or the pictures' captions) whose words are a training text's."""

    def __str__(self) -> str:
        """One clause for a report."""
        return (
            f"{self.same_file:,} pictures are files of the training data, {self.same_look:,} more "
            f"look like one, {self.same_text:,} texts are training texts"
        )


def digest_training_data(
    samples: Iterable[tuple[Picture | None, Sequence[str]]],
    *,
    description: str,
    policy: FetchPolicy | None = None,
) -> TrainingData:
    """Make the digests of training data: pairs of a picture, or None, and the texts beside it.

    Pictures that cannot be read were not trained on and are passed over.
    """
    pictures: set[bytes] = set()
    texts: set[bytes] = set()
    looks: list[np.ndarray] = []

    def digest(sample: tuple[Picture | None, Sequence[str]]) -> tuple[bytes, np.ndarray] | None:
        picture = sample[0]
        if picture is None:
            return None
        try:
            return picture_digest(picture, policy=policy), _look_of(picture, policy)
        except (ImageFetchError, ImageError):
            return None

    stream = iter(samples)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := list(islice(stream, _AT_ONCE)):
            texts.update(text_digest(text) for _, words in some for text in words if text.strip())
            for found in pool.map(digest, some):
                if found and found[0] not in pictures:
                    pictures.add(found[0])
                    looks.append(found[1])
    stacked = np.stack(looks) if looks else np.empty((0, HASH_BYTES), np.uint8)
    return TrainingData(description, frozenset(pictures), stacked, frozenset(texts))


def write_training_data(data: TrainingData, folder: Path) -> None:
    """Put the digests into a checkpoint folder.

    Raises:
        EvaluationError: the file cannot be written.
    """
    tensors = {"looks": data.looks}
    for name, digests in (("pictures", data.pictures), ("texts", data.texts)):
        joined = np.frombuffer(b"".join(sorted(digests)), np.uint8)
        tensors[name] = joined.reshape(-1, DIGEST_BYTES)
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
            digests = [
                frozenset(row.tobytes() for row in file.get_tensor(name))
                for name in ("pictures", "texts")
            ]
            return TrainingData(description, digests[0], file.get_tensor("looks"), digests[1])
    except (OSError, KeyError, SafetensorError) as exc:
        message = f"{path} cannot be read ({exc}); fetch the checkpoint again"
        raise EvaluationError(message) from exc


class LeakageCheck:
    """Holds test pictures and texts against training data; looks are kept in the cache."""

    def __init__(
        self,
        training: Sequence[TrainingData],
        cache: Path | None,
        *,
        policy: FetchPolicy | None = None,
    ) -> None:
        """Hold the training data of one model.

        Args:
            training: one or several records; none of them finds nothing.
            cache: folder that keeps the looks of test pictures; None keeps them in memory.
            policy: how remote pictures may be fetched.

        Raises:
            EvaluationError: the cache is damaged.
        """
        self._pictures = frozenset().union(*(data.pictures for data in training))
        self._texts = frozenset().union(*(data.texts for data in training))
        hashes = [np.empty((0, HASH_BYTES), np.uint8), *(data.looks for data in training)]
        self._index = HashIndex(np.concatenate(hashes))
        self._shelf = Shelf(cache, "looks", HASH_BYTES, np.uint8)
        self._judged: dict[bytes, bool] = {}
        self._policy = policy

    def same_files(self, digests: Sequence[bytes | None]) -> Bool[np.ndarray, " picture"]:
        """Which pictures are training pictures, byte for byte."""
        return np.array([digest in self._pictures for digest in digests], dtype=bool)

    def same_looks(
        self, pictures: Sequence[Picture], digests: Sequence[bytes | None]
    ) -> Bool[np.ndarray, " picture"]:
        """Which pictures look like a training picture; one that cannot be read does not."""
        if not len(self._index):
            return np.zeros(len(pictures), dtype=bool)
        named = zip(digests, pictures, strict=True)
        fresh = {digest: p for digest, p in named if digest and digest not in self._judged}
        self._look_at(fresh)
        judged = [digest for digest in fresh if digest in self._shelf.rows]
        if judged:
            like = self._index.contains(np.stack([self._shelf.rows[digest] for digest in judged]))
            self._judged |= zip(judged, like.tolist(), strict=True)
        return np.array([bool(digest and self._judged.get(digest)) for digest in digests], bool)

    def _look_at(self, pictures: Mapping[bytes, Picture]) -> None:
        lacking = {d: picture for d, picture in pictures.items() if d not in self._shelf.rows}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            looks = pool.map(self._try_look, lacking.values())
            for digest, look in zip(lacking, looks, strict=True):
                if look is not None:
                    self._shelf.put(digest, look)
        self._shelf.flush()

    def same_texts(self, texts: Sequence[str]) -> Bool[np.ndarray, " text"]:
        """Which texts are training texts, but for case, accents' encoding and punctuation."""
        return np.array([bool(t.strip()) and text_digest(t) in self._texts for t in texts], bool)

    def _try_look(self, picture: Picture) -> np.ndarray | None:
        try:
            return _look_of(picture, self._policy)
        except (ImageFetchError, ImageError):
            return None


def text_digest(text: str) -> bytes:
    """16 bytes that stand for a text's words: case, punctuation and spacing have no part."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return blake2b(" ".join(words).encode(), digest_size=DIGEST_BYTES).digest()


def _look_of(picture: Picture, policy: FetchPolicy | None) -> np.ndarray:
    source = picture.source
    if isinstance(source, str | Path):
        source = read_image_bytes(str(source), policy=policy or FetchPolicy())
    return perceptual_hash(open_image(source, target_px=DECODE_PX))


__all__ = [
    "TRAINED_ON",
    "Leakage",
    "LeakageCheck",
    "TrainingData",
    "digest_training_data",
    "read_training_data",
    "text_digest",
    "write_training_data",
]
