"""``FashionCLIP``: images and texts to unit vectors.

Images are fetched and decoded in threads, a bounded number of them ahead of the engine, so that
a stream of any length takes the same memory.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float
from PIL import Image

from fashionclip.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.engines import Engine, open_engine
from fashionclip.engines.io import to_unit
from fashionclip.errors import FashionCLIPError
from fashionclip.images.decode import ImageSource, Preprocess, fetch_image, open_image, preprocess
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy
from fashionclip.localization import CONTRASTS, Localization, check_texts, localize
from fashionclip.text.captions import prompts, read_templates

T = TypeVar("T")

BATCHES_AHEAD = 3
"""Batches that are decoded ahead of the engine."""
BATCHES_PER_SORT = 16
"""Batches of texts that are sorted by length together, to reduce padding."""
KEPT_PROMPTS = 8
"""Lists of words whose vectors ``localize`` keeps."""
N_CALIBRATION_IMAGES = 64
"""Sample images that int8 is calibrated on by default."""


@dataclass(frozen=True, slots=True)
class Classification:
    """Zero-shot probabilities: row i belongs to image i, column j to label j."""

    label_names: tuple[str, ...]
    probabilities: Float[np.ndarray, "n label"]
    """float32 in 0…1; each row sums to 1, or is NaN where the image could not be read."""

    @property
    def best(self) -> list[str | None]:
        """The most probable label of each image; None where it could not be read."""
        return [
            None if np.isnan(row).any() else self.label_names[int(row.argmax())]
            for row in self.probabilities
        ]


class FashionCLIP:
    """A CLIP model: encodes images and texts, compares them, classifies images by labels."""

    def __init__(
        self,
        name: str | Path | Checkpoint | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        calibration: Iterable[ImageSource] | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Open a model.

        Args:
            name: None for the built-in model, a local folder in the transformers format, a CLIP
                repository on the Hugging Face hub such as ``patrickjohncyh/fashion-clip``, or an
                open checkpoint.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``, … (see ``open_engine``).
            precision: ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``int8``.
            threads: cores that the engine may use; None for all. No effect on a GPU.
            revision: branch, tag or commit of a hub repository.
            token: hub token for private repositories.
            cache_dir: where hub downloads are cached; None for the hub's own cache.
            calibration: for ``int8``: images whose activations set the ranges; None for generated
                product images.
            engine: an engine that is already open for this checkpoint; ``device``, ``precision``,
                ``threads`` and ``calibration`` are then ignored.

        Raises:
            CheckpointError: no such model, no network for it, or not a CLIP checkpoint.
            EngineError: no such device or precision here.
            MissingExtraError: the device needs PyTorch, which is not installed.
        """
        if isinstance(name, Checkpoint):
            self.checkpoint = name
        else:
            self.checkpoint = open_checkpoint(
                name, revision=revision, token=token, cache_dir=cache_dir
            )
        pixels = None
        if precision == "int8" and engine is None:
            images = _sample_images() if calibration is None else calibration
            pixels = np.stack([_pixels_of(image, self.checkpoint.preprocess) for image in images])
        self.engine = engine or open_engine(
            self.checkpoint,
            device=device,
            precision=precision,
            threads=threads,
            calibration=pixels,
        )
        self._prompted: dict[tuple[str, ...], np.ndarray] = {}

    @classmethod
    def from_pretrained(cls, name: str | Path | None = None, **options: Any) -> "FashionCLIP":  # noqa: ANN401
        """Open a model; the same as ``FashionCLIP(name, ...)``.

        Args:
            name: as in ``FashionCLIP``.
            options: as in ``FashionCLIP``.

        Raises:
            FashionCLIPError: as in ``FashionCLIP``.
        """
        return cls(name, **options)

    def __repr__(self) -> str:
        """Name, architecture, vector length, and what runs it."""
        engine = type(self.engine).__name__.removesuffix("Engine")
        return (
            f"FashionCLIP({self.name!r}: {self.checkpoint.config.architecture}, dim {self.dim}, "
            f"{engine} on {self.engine.device}, {self.engine.precision})"
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that ``transformers.CLIPModel`` and ``CLIPProcessor`` load unchanged.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        save_checkpoint(self.checkpoint, Path(folder))

    @property
    def name(self) -> str:
        """The name that the model was opened by; ``builtin`` for the built-in model."""
        return self.checkpoint.name

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the vectors depend on, except engine and precision."""
        return self.checkpoint.fingerprint

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.checkpoint.config.projection_dim

    @property
    def logit_scale(self) -> float:
        """Factor of similarities before the softmax: one over the temperature.

        The checkpoint stores its logarithm under the same name, as CLIP does.
        """
        return float(np.exp(self.checkpoint.config.logit_scale))

    def iter_images(
        self,
        images: Iterable[ImageSource],
        *,
        batch_size: int = 32,
        workers: int | None = None,
        policy: FetchPolicy | None = None,
    ) -> Iterator[Float[np.ndarray, " dim"] | FashionCLIPError]:
        """Encode a stream of images; item i of the output belongs to item i of the input.

        An image that cannot be fetched or decoded yields its error and affects no other. Memory is
        bounded by ``batch_size``, not by the length of the stream.

        Args:
            images: any iterable; it is read a few batches ahead.
            batch_size: images per call of the engine.
            workers: threads that fetch and decode; None for one per core, 16 at most.
            policy: how remote images may be fetched.

        Yields:
            A float32 unit vector, or the error (``ImageFetchError`` or ``ImageError``).

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        _check_batch_size(batch_size)
        n_threads = workers or min(16, os.cpu_count() or 1)
        pool = ThreadPoolExecutor(n_threads, thread_name_prefix="fashionclip-decode")
        pre, policy = self.checkpoint.preprocess, policy or DEFAULT_POLICY
        source = iter(images)
        ahead: deque[Future[np.ndarray | FashionCLIPError]] = deque()

        def submit(count: int) -> None:
            ahead.extend(pool.submit(_try_pixels, s, pre, policy) for s in islice(source, count))

        try:
            submit(batch_size * BATCHES_AHEAD)
            while ahead:
                batch = [ahead.popleft().result() for _ in range(min(batch_size, len(ahead)))]
                submit(len(batch))
                yield from self._encode_batch(batch)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _encode_batch(
        self, batch: Sequence[np.ndarray | FashionCLIPError]
    ) -> Iterator[np.ndarray | FashionCLIPError]:
        pixels = [item for item in batch if isinstance(item, np.ndarray)]
        vectors = iter(self.engine.encode_pixels(np.stack(pixels)) if pixels else ())
        for item in batch:
            yield item if isinstance(item, FashionCLIPError) else next(vectors)

    def encode_images(
        self,
        images: Iterable[ImageSource] | ImageSource,
        *,
        batch_size: int = 32,
        on_error: Literal["raise", "nan"] = "raise",
        workers: int | None = None,
        policy: FetchPolicy | None = None,
        progress: bool = False,
    ) -> Float[np.ndarray, "n dim"]:
        """Encode images to unit vectors.

        Args:
            images: paths, URLs, bytes, Pillow images or arrays, mixed in any order; a single image
                is a list of one.
            batch_size: images per call of the engine.
            on_error: ``raise`` stops at the first broken image, ``nan`` gives it a row of NaN.
            workers: as in ``iter_images``.
            policy: how remote images may be fetched.
            progress: show a bar on the terminal.

        Returns:
            float32 unit vectors, row i for image i.

        Raises:
            FashionCLIPError: with ``on_error="raise"``: which image failed and why.
            ValueError: ``batch_size`` is below 1.
        """
        images = as_images(images)
        vectors: list[np.ndarray] = []
        blank = np.full(self.dim, np.nan, dtype=np.float32)
        stream = self.iter_images(images, batch_size=batch_size, workers=workers, policy=policy)
        for i, item in enumerate(_tracked(stream, images, "encoding images", shown=progress)):
            if isinstance(item, np.ndarray):
                vectors.append(item)
            elif on_error == "nan":
                vectors.append(blank)
            else:
                message = f"image {i}: {item}"
                raise type(item)(message) from item
        return _stack(vectors, self.dim)

    def encode_text(
        self,
        texts: str | Iterable[str],
        *,
        batch_size: int = 256,
        templates: str | Sequence[str] | None = None,
        progress: bool = False,
    ) -> Float[np.ndarray, "n dim"]:
        """Encode texts to unit vectors.

        Args:
            texts: any iterable of strings; a single string is a list of one. A text beyond the
                model's context is cut before its end token.
            batch_size: texts per call of the engine.
            templates: prompt templates for each text (a name such as ``"ensemble"``, one template
                or several); the vectors of a text's prompts are averaged and scaled to unit
                length, as in Radford et al. 2021, section 3.1.4.
            progress: show a bar on the terminal.

        Returns:
            float32 unit vectors, row i for text i.

        Raises:
            ValueError: a template without ``{}``, or ``batch_size`` below 1.
        """
        texts = [texts] if isinstance(texts, str) else texts
        _check_batch_size(batch_size)
        n_prompts = len(read_templates(templates))
        tracked = _tracked(texts, texts, "encoding texts", shown=progress)
        words = (prompt for text in tracked for prompt in prompts(text, templates))
        found: list[np.ndarray] = []
        while window := list(islice(words, batch_size * BATCHES_PER_SORT)):
            found.extend(self._encode_sorted(window, batch_size))
        vectors = _stack(found, self.dim)
        if n_prompts == 1:
            return vectors
        return to_unit(vectors.reshape(-1, n_prompts, self.dim).mean(axis=1))

    def _encode_sorted(self, texts: Sequence[str], batch_size: int) -> np.ndarray:
        by_length = np.argsort([len(text) for text in texts], kind="stable")
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), batch_size):
            rows = by_length[start : start + batch_size]
            tokens = self.checkpoint.tokenizer.encode([texts[row] for row in rows])
            vectors[rows] = self.engine.encode_tokens(tokens)
        return vectors

    def similarity(
        self, a: Float[np.ndarray, "n dim"], b: Float[np.ndarray, "m dim"]
    ) -> Float[np.ndarray, "n m"]:
        """Cosine of every row of ``a`` with every row of ``b``, in -1…1; lengths do not matter."""
        units_a, units_b = to_unit(np.asarray(a, np.float32)), to_unit(np.asarray(b, np.float32))
        return np.asarray(units_a @ units_b.T)

    def label_probabilities(
        self,
        embeddings: Float[np.ndarray, "n dim"],
        label_embeddings: Float[np.ndarray, "label dim"],
    ) -> Float[np.ndarray, "n label"]:
        """Probability of each label for each embedding: a softmax at the model's temperature.

        Source: Radford et al. 2021, figure 3; ``logits = exp(logit_scale) * cosine``.
        """
        logits = self.logit_scale * self.similarity(embeddings, label_embeddings)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)

    def classify(
        self,
        images: Iterable[ImageSource] | ImageSource,
        labels: Sequence[str],
        *,
        templates: str | Sequence[str] | None = "product",
        batch_size: int = 32,
        on_error: Literal["raise", "nan"] = "raise",
        progress: bool = False,
    ) -> Classification:
        """Classify images by labels that the model was not trained for (zero-shot).

        Args:
            images: as in ``encode_images``.
            labels: at least one.
            templates: prompt templates for the labels; None encodes them as they are.
            batch_size: images per call of the engine.
            on_error: as in ``encode_images``.
            progress: show a bar on the terminal.

        Raises:
            ValueError: no labels, or a template without ``{}``.
            FashionCLIPError: as in ``encode_images``.
        """
        names = tuple(labels)
        if not names or isinstance(labels, str):
            message = "labels is a list of at least one label, such as ['jeans', 'dress']"
            raise ValueError(message)
        label_embeddings = self.encode_text(names, templates=templates)
        embeddings = self.encode_images(
            images, batch_size=batch_size, on_error=on_error, progress=progress
        )
        return Classification(names, self.label_probabilities(embeddings, label_embeddings))

    def localize(
        self,
        image: ImageSource,
        words: Sequence[str],
        *,
        contrast: Sequence[str] | None = None,
        windows: int = 1,
        policy: FetchPolicy | None = None,
    ) -> Localization:
        """Find where in an image words are. The image is encoded once for all words.

        Args:
            image: a path, URL, bytes, Pillow image or array.
            words: what to look for; short nouns work best.
            contrast: what else there may be, which each word is compared with; None for
                ``localization.CONTRASTS``.
            windows: 1 for the whole image; 2 adds overlapping windows at twice the size, which
                find smaller things and take 7 to 10 passes instead of one.
            policy: how remote images may be fetched.

        Returns:
            For each word a map in the image's own pixels, a strength, and boxes.

        Raises:
            ImageFetchError: the image cannot be fetched.
            ImageError: it cannot be decoded, has one colour, or is too long.
            ValueError: no words, an empty one, too many, one that is longer than the model reads,
                or ``windows`` is not 1 or 2.
        """
        names = check_texts(words, "words")
        others = CONTRASTS if contrast is None else check_texts(contrast, "contrast")
        if windows not in {1, 2}:
            message = f"windows is {windows}; it is 1 or 2"
            raise ValueError(message)
        opened = open_image(fetch_image(image, policy=policy or DEFAULT_POLICY))
        return localize(
            self.engine,
            self.checkpoint,
            opened,
            names,
            self._prompt_vectors(names),
            self._prompt_vectors(others),
            self._prompt_vectors(CONTRASTS),
            windows=windows,
        )

    def _prompt_vectors(self, texts: tuple[str, ...]) -> np.ndarray:
        """Vectors of texts as products, kept for the next image.

        Raises:
            ValueError: a text is longer than the model reads.
        """
        found = self._prompted.get(texts)
        if found is None:
            tokenizer = self.checkpoint.tokenizer
            for text in texts:
                if tokenizer.is_cut(text):
                    message = (
                        f"{text[:40]!r} goes on beyond the {tokenizer.context_length} tokens that "
                        "the model reads; look for short nouns, each as a text of its own"
                    )
                    raise ValueError(message)
            found = self.encode_text(texts, templates="product")
            if len(self._prompted) >= KEPT_PROMPTS:
                self._prompted = {}
            self._prompted[texts] = found
        return found


def as_images(images: Iterable[ImageSource] | ImageSource) -> Iterable[ImageSource]:
    """A single image as a list of one; NumPy arrays of paths, objects or images as lists."""
    if isinstance(images, np.ndarray):
        is_list = images.ndim == 4 or images.dtype.kind in "UO"
        return [str(i) if isinstance(i, np.str_) else i for i in images] if is_list else [images]
    return [images] if isinstance(images, str | Path | bytes | Image.Image) else images


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        message = f"batch_size is {batch_size}; it must be at least 1"
        raise ValueError(message)


def _try_pixels(
    source: ImageSource, pre: Preprocess, policy: FetchPolicy
) -> np.ndarray | FashionCLIPError:
    try:
        return _pixels_of(source, pre, policy)
    except FashionCLIPError as error:
        return error


def _pixels_of(
    source: ImageSource, pre: Preprocess, policy: FetchPolicy = DEFAULT_POLICY
) -> np.ndarray:
    return preprocess(fetch_image(source, policy=policy), pre)


def _sample_images() -> list[Image.Image]:
    from fashionclip.sample import generate_images  # needed for int8 only

    return generate_images(N_CALIBRATION_IMAGES)


def _tracked(stream: Iterable[T], source: object, what: str, *, shown: bool) -> Iterable[T]:
    """The stream, with a progress bar on stderr if it is shown."""
    if not shown:
        return stream
    from rich.console import Console  # takes time to import
    from rich.progress import track

    total = len(source) if hasattr(source, "__len__") else None
    return track(stream, what, total=total, console=Console(stderr=True))


def _stack(vectors: Sequence[np.ndarray], dim: int) -> np.ndarray:
    if not vectors:
        return np.empty((0, dim), dtype=np.float32)
    return np.stack(vectors).astype(np.float32, copy=False)


__all__ = ["Classification", "FashionCLIP", "ImageSource", "as_images"]
