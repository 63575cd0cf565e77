"""The original's ``FashionCLIP``, on this package's model."""

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from fashionclip.compat.dataset import FCLIPDataset
from fashionclip.compat.heatmap import heat_map, paint, views_of
from fashionclip.errors import FashionCLIPError
from fashionclip.images.decode import decode_image, to_rgb
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.model import FashionCLIP as Model
from fashionclip.model import ImageSource
from fashionclip.product import Reject

KNOWN_MODELS: Mapping[str, str] = {"fashion-clip": "patrickjohncyh/fashion-clip"}
"""Short names of the original."""
BATCH_SIZE = 32

logger = logging.getLogger("fashionclip.compat")


class FashionCLIP:
    """The original's ``FashionCLIP``: a model and, if given, a data set that it has encoded."""

    def __init__(
        self,
        model_name: str | Path | None = None,
        dataset: FCLIPDataset | None = None,
        normalize: bool = True,
        approx: bool = True,
        auth_token: str | None = None,
        *,
        device: str = "auto",
        policy: FetchPolicy | None = None,
    ) -> None:
        """Open the model and encode the data set.

        Args:
            model_name: ``"fashion-clip"``, any CLIP repository on the hub, a local folder, or
                None for the built-in model.
            dataset: products to encode at once.
            normalize: accepted; vectors always have unit length here.
            approx: accepted; every product is compared, which takes less than Annoy's 50 trees
                took to build, and misses none.
            auth_token: hub token for private repositories.
            device: as in ``fashionclip.FashionCLIP.from_pretrained``.
            policy: how remote pictures may be fetched.

        Raises:
            CheckpointError: no such model, no network for it, or not a CLIP checkpoint.
            EngineError: no such device here.
        """
        name = KNOWN_MODELS.get(str(model_name), model_name)
        self.model_name = model_name
        self.model = Model.from_pretrained(name, device=device, token=auth_token)
        self.device = self.model.engine.device
        self.model_hash = self.model.fingerprint
        self.dataset = dataset
        self.normalize, self.approx = normalize, approx
        self.rejects: list[Reject] = []
        """Products of the data set whose pictures could not be used, and why."""
        self._policy = policy
        if dataset is not None:
            found = self._encode(dataset.images_path, BATCH_SIZE)
            self.image_vectors, errors = found
            self.textual_vectors = self.encode_text(dataset.captions, BATCH_SIZE)
            self.rejects = [
                Reject(i + 1, str(dataset.ids[i]), _shown(dataset.images_path[i]), str(error))
                for i, error in errors.items()
            ]

    @cached_property
    def dataset_hash(self) -> str:
        """Digest of the data set, pictures included; computed when it is asked for.

        Raises:
            ValueError: there is no data set.
        """
        return self._needed_dataset().hash()

    @property
    def vector_hash(self) -> str:
        """Digest of model and data set together."""
        return f"{self.model_hash}_{self.dataset_hash}"

    def encode_images(
        self, images: Iterable[ImageSource] | ImageSource, batch_size: int = BATCH_SIZE
    ) -> Float[np.ndarray, "n dim"]:
        """Encode pictures to unit vectors, row i for picture i.

        A picture that cannot be used gets a row of NaN, and one warning names all of them.

        Args:
            images: paths, URLs, bytes, Pillow images or arrays, mixed as you like.
            batch_size: pictures the model takes at once; there may be fewer of them.

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        return self._encode(images, batch_size)[0]

    def encode_text(
        self, text: str | Iterable[str], batch_size: int = BATCH_SIZE
    ) -> Float[np.ndarray, "n dim"]:
        """Encode texts to unit vectors, row i for text i.

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        texts = [text] if isinstance(text, str) else (str(line) for line in text)
        return self.model.encode_text(texts, batch_size=batch_size)

    def zero_shot_classification(
        self,
        images: Iterable[ImageSource] | ImageSource,
        text_labels: Sequence[str],
        debug: bool = False,
    ) -> list[str | None]:
        """The label closest to each picture; None for a picture that cannot be used.

        Args:
            images: as in ``encode_images``.
            text_labels: whole phrases, used as they are.
            debug: log the similarities.

        Raises:
            ValueError: no labels.
        """
        if isinstance(text_labels, str) or not len(text_labels):
            message = "text_labels is a list of at least one label"
            raise ValueError(message)
        cosines = self._cosine_similarity(self.encode_images(images), self.encode_text(text_labels))
        if debug:
            logger.info("similarities of pictures (rows) and labels:\n%s", cosines)
        return [
            None if np.isnan(row).any() else str(text_labels[int(row.argmax())]) for row in cosines
        ]

    def retrieval(self, queries: str | Sequence[str], top_k: int = 10) -> Int[np.ndarray, "n k"]:
        """Positions in the data set of the pictures closest to each text, closest first.

        Args:
            queries: texts.
            top_k: products a text; no more than there are with a usable picture.

        Raises:
            ValueError: there is no data set, or ``top_k`` is below 1.
        """
        self._needed_dataset()
        vectors = self.encode_text(queries)
        return self._nearest_neighbours(top_k, vectors, self.image_vectors)

    def display_attention(
        self, image_path: ImageSource, query_text: str, pixel_size: int = 15, iterations: int = 5
    ) -> Image.Image:
        """Where in a picture a text is found: the picture, the heat, and one on the other.

        Args:
            image_path: a path, URL, bytes, Pillow image or array.
            query_text: what to look for.
            pixel_size: step of the strips that are shown to the model, in pixels of 224.
            iterations: how often what is below the mean is taken away.

        Raises:
            ImageFetchError: the picture cannot be fetched; ImageError: it cannot be decoded.
            ValueError: ``pixel_size`` is out of range.
        """
        heat, image = self._get_heatmap(image_path, query_text, pixel_size, iterations)
        return paint(image, heat)

    def _get_heatmap(
        self, image_path: ImageSource, text: str, pixel_size: int = 15, iterations: int = 5
    ) -> tuple[np.ndarray, Image.Image]:
        image = _opened(image_path, self._policy)
        bands, views = views_of(image, pixel_size)
        words = self.encode_text(text)
        vectors = np.stack(
            [row for row in self.model.iter_images(views) if isinstance(row, np.ndarray)]
        )
        cosines = self.model.similarity(vectors, words)[:, 0]
        heat = heat_map(bands, cosines, iterations=iterations)
        return heat, next(iter(views_of(image, pixel_size)[1]))

    def _encode(
        self, images: Iterable[ImageSource] | ImageSource, batch_size: int
    ) -> tuple[np.ndarray, dict[int, FashionCLIPError]]:
        rows: list[np.ndarray] = []
        errors: dict[int, FashionCLIPError] = {}
        blank = np.full(self.model.dim, np.nan, dtype=np.float32)
        stream = self.model.iter_images(
            _several(images), batch_size=batch_size, policy=self._policy
        )
        for i, item in enumerate(stream):
            if isinstance(item, FashionCLIPError):
                errors[i] = item
                rows.append(blank)
            else:
                rows.append(item)
        if errors:
            first, error = next(iter(errors.items()))
            message = (
                f"{len(errors)} of {len(rows)} pictures could not be used and have a row of NaN; "
                f"picture {first}: {error}"
            )
            warnings.warn(message, stacklevel=3)
        return np.stack(rows) if rows else np.empty((0, self.model.dim), np.float32), errors

    def _cosine_similarity(
        self, key_vectors: np.ndarray, space_vectors: np.ndarray, normalize: bool = True
    ) -> np.ndarray:
        keys, space = np.asarray(key_vectors), np.asarray(space_vectors)
        return self.model.similarity(keys, space) if normalize else keys @ space.T

    def _nearest_neighbours(
        self,
        k: int,
        key_vectors: np.ndarray | Sequence[np.ndarray],
        space_vectors: np.ndarray | Sequence[np.ndarray],
        normalize: bool = True,
        debug: bool = False,
    ) -> np.ndarray:
        if k < 1:
            message = f"top_k is {k}: ask for at least 1 product"
            raise ValueError(message)
        keys, space = np.asarray(key_vectors), np.asarray(space_vectors)
        usable = np.flatnonzero(~np.isnan(space).any(axis=1))
        cosines = self._cosine_similarity(keys, space[usable], normalize=normalize)
        if debug:
            logger.info("similarities:\n%s", cosines)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.asarray(usable[best], dtype=np.int64)

    def _needed_dataset(self) -> FCLIPDataset:
        if self.dataset is None:
            message = "there is no data set to search: FashionCLIP(model_name, dataset=...)"
            raise ValueError(message)
        return self.dataset


def _several(images: Iterable[ImageSource] | ImageSource) -> Iterable[ImageSource]:
    """One picture is a list of one; NumPy's arrays of paths are lists, not pictures."""
    if isinstance(images, np.ndarray):
        is_list = images.dtype.kind in "UO" or images.ndim == 4
        return (
            images.tolist() if images.dtype.kind == "U" else list(images if is_list else [images])
        )
    return [images] if isinstance(images, str | Path | bytes | Image.Image) else images


def _shown(image: ImageSource) -> str | None:
    return str(image) if isinstance(image, str | Path) else None


def _opened(image: ImageSource, policy: FetchPolicy | None) -> Image.Image:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if isinstance(image, str | Path):
        image = read_image_bytes(str(image), policy=policy or FetchPolicy())
    return decode_image(image) if isinstance(image, bytes) else to_rgb(image)
