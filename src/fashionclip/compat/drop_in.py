"""The original's ``FashionCLIP`` and its heat maps of words on images, on this package's model.

A heat map is that of ``FashionCLIP.localize``, which takes one pass of the model where the original
takes some 200. Its scale is the same for all images, so a word that is not in one leaves it dark.
"""

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from fashionclip.compat.dataset import FCLIPDataset
from fashionclip.errors import FashionCLIPError
from fashionclip.images.decode import ImageSource, fetch_image, open_image
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy
from fashionclip.localization import has_one_color
from fashionclip.model import FashionCLIP as Model
from fashionclip.model import as_images
from fashionclip.product import Reject

KNOWN_MODELS: Mapping[str, str] = {"fashion-clip": "patrickjohncyh/fashion-clip"}
"""Short names of the original."""
BATCH_SIZE = 32
HEAT_PX = 224
GREY = 128

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
            approx: accepted; the search is always exact, and faster than building Annoy's trees.
            auth_token: hub token for private repositories.
            device: as in ``fashionclip.FashionCLIP``.
            policy: how remote images may be fetched.

        Raises:
            CheckpointError: no such model, no network for it, or not a CLIP checkpoint.
            EngineError: no such device here.
        """
        name = KNOWN_MODELS.get(str(model_name), model_name)
        self.model_name = model_name
        self.model = Model(name, device=device, token=auth_token)
        self.device = self.model.engine.device
        self.model_hash = self.model.fingerprint
        self.dataset = dataset
        self.normalize, self.approx = normalize, approx
        self.rejects: list[Reject] = []
        """Products of the data set whose images could not be used, with the reason."""
        self._policy = policy or DEFAULT_POLICY
        if dataset is not None:
            self.image_vectors, errors = self._encode(dataset.images_path, BATCH_SIZE)
            self.textual_vectors = self.encode_text(dataset.captions, BATCH_SIZE)
            for i, error in errors.items():
                image = dataset.images_path[i]
                location = str(image) if isinstance(image, str | Path) else None
                self.rejects.append(Reject(i + 1, str(dataset.ids[i]), location, str(error)))

    @cached_property
    def dataset_hash(self) -> str:
        """Digest of the data set with its images, computed on first access.

        Raises:
            ValueError: there is no data set.
        """
        return self._checked_dataset().hash()

    @property
    def vector_hash(self) -> str:
        """Digest of model and data set together."""
        return f"{self.model_hash}_{self.dataset_hash}"

    def encode_images(
        self, images: Iterable[ImageSource] | ImageSource, batch_size: int = BATCH_SIZE
    ) -> Float[np.ndarray, "n dim"]:
        """Encode images to unit vectors, row i for image i.

        An image that cannot be used gets a row of NaN; one warning reports all of them.

        Args:
            images: paths, URLs, bytes, Pillow images or arrays, mixed in any order.
            batch_size: images per call of the model; there may be fewer of them.

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
        """The label closest to each image; None for an image that cannot be used.

        Args:
            images: as in ``encode_images``.
            text_labels: whole phrases, used unchanged.
            debug: log the similarities.

        Raises:
            ValueError: no labels.
        """
        if isinstance(text_labels, str) or not len(text_labels):
            message = "text_labels is a list of at least one label"
            raise ValueError(message)
        cosines = self._cosine_similarity(self.encode_images(images), self.encode_text(text_labels))
        if debug:
            logger.info("similarities of images (rows) and labels:\n%s", cosines)
        return [
            None if np.isnan(row).any() else str(text_labels[int(row.argmax())]) for row in cosines
        ]

    def retrieval(self, queries: str | Sequence[str], top_k: int = 10) -> Int[np.ndarray, "n k"]:
        """Positions in the data set of the images closest to each text, closest first.

        Args:
            queries: texts.
            top_k: products per text, limited by the number of usable images.

        Raises:
            ValueError: there is no data set, or ``top_k`` is below 1.
        """
        self._checked_dataset()
        return self._nearest_neighbours(top_k, self.encode_text(queries), self.image_vectors)

    def display_attention(
        self, image_path: ImageSource, query_text: str, pixel_size: int = 15, iterations: int = 5
    ) -> Image.Image:
        """Show where in an image a text is found: image, heat map, and both multiplied.

        Args:
            image_path: a path, URL, bytes, Pillow image or array.
            query_text: what to look for.
            pixel_size: accepted; the map needs no bands.
            iterations: how often values below the mean are removed.

        Raises:
            ImageFetchError: the image cannot be fetched.
            ImageError: it cannot be decoded, or is too long to locate anything in it.
            ValueError: ``query_text`` is empty.
        """
        heat, image = self._get_heatmap(image_path, query_text, pixel_size, iterations)
        pixels = np.asarray(image, dtype=np.float64)
        shown = (pixels, np.repeat(heat[..., None] * 255.0, 3, axis=2), pixels * heat[..., None])
        return Image.fromarray(np.concatenate(shown, axis=1).round().astype(np.uint8))

    def _get_heatmap(
        self, image_path: ImageSource, text: str, pixel_size: int = 15, iterations: int = 5
    ) -> tuple[np.ndarray, Image.Image]:
        """Heat in 0…1 on a square of ``HEAT_PX``, and the image on it; zeros for one colour."""
        image = open_image(fetch_image(image_path, policy=self._policy))
        square, corner, size = _on_grey(image)
        heat = np.zeros((HEAT_PX, HEAT_PX))
        if not has_one_color(image):
            found = Image.fromarray(self.model.localize(image, [text]).map(0))
            part = np.asarray(found.resize(size, Image.Resampling.BILINEAR), np.float64)
            rest = part
            for _ in range(iterations):
                rest = np.maximum(rest - rest.mean(), 0.0)
            top, left = corner[1], corner[0]
            heat[top : top + size[1], left : left + size[0]] = np.where(rest > 0, part, 0.0)
        return heat, square

    def _encode(
        self, images: Iterable[ImageSource] | ImageSource, batch_size: int
    ) -> tuple[np.ndarray, dict[int, FashionCLIPError]]:
        errors: dict[int, FashionCLIPError] = {}
        rows = [np.empty((0, self.model.dim), np.float32)]
        stream = self.model.iter_images(
            as_images(images), batch_size=batch_size, policy=self._policy
        )
        for i, item in enumerate(stream):
            if isinstance(item, FashionCLIPError):
                errors[i] = item
                item = np.full(self.model.dim, np.nan, dtype=np.float32)
            rows.append(item[None])
        if errors:
            first, error = next(iter(errors.items()))
            message = (
                f"{len(errors)} of {len(rows) - 1} images could not be used and have a row of NaN; "
                f"image {first}: {error}"
            )
            warnings.warn(message, stacklevel=3)
        return np.concatenate(rows), errors

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

    def _checked_dataset(self) -> FCLIPDataset:
        if self.dataset is None:
            message = "there is no data set to search: FashionCLIP(model_name, dataset=...)"
            raise ValueError(message)
        return self.dataset


def _on_grey(image: Image.Image) -> tuple[Image.Image, tuple[int, int], tuple[int, int]]:
    """The image on a grey square, its longer side scaled to ``HEAT_PX``; its corner and size."""
    scale = HEAT_PX / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGB", (HEAT_PX, HEAT_PX), (GREY, GREY, GREY))
    corner = (HEAT_PX - width) // 2, (HEAT_PX - height) // 2
    canvas.paste(image.resize((width, height), Image.Resampling.BICUBIC), corner)
    return canvas, corner, (width, height)
