"""The distance of each export's vectors from this package's, on real images and texts.

The reference is this package's engine in float32. Images are compared from their files on, with
decoding and preprocessing.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fashionclip.checkpoint import open_checkpoint
from fashionclip.engines import open_engine
from fashionclip.engines.io import to_unit
from fashionclip.errors import FashionCLIPError, PublishError
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.decode import DecodedOrBytes, fetch_image, open_image, preprocess
from fashionclip.publish.exports import normalised, open_onnx, open_openvino

MAX_IMAGES = 64
"""Number of images that are compared."""
_BATCH_SIZE = 16

Encode = Callable[[np.ndarray], np.ndarray]
Vectors = tuple[Float[np.ndarray, "n dim"], Float[np.ndarray, "n dim"]]
"""Of images and of their captions."""


@dataclass(frozen=True, slots=True)
class Parity:
    """One export against the reference."""

    name: str
    """``transformers``, ``openvino``, ``onnx``; ``transformers, its own preprocessing``."""
    images: float
    """Least cosine of an image's two vectors."""
    texts: float | None
    """Least cosine of a text's two vectors; None where texts are those of the row above."""
    same_best: float
    """Share of images whose best text is the same as the reference's."""
    n: int
    """Number of images, and of texts."""


def measure_parity(folder: Path, pictures: Sequence[ImageRef]) -> tuple[Parity, ...]:
    """Compare every export in a published folder with this package's engine.

    Args:
        folder: a transformers folder, with ``openvino/`` and ``onnx/`` in it if there are any.
        pictures: images with captions; the first ``MAX_IMAGES`` that can be read and have a
            distinct caption are used.

    Raises:
        PublishError: no image can be read.
        CheckpointError: the folder is not a checkpoint.
    """
    checkpoint = open_checkpoint(folder)
    files, captions = _readable(pictures)
    pixels = np.stack([preprocess(file, checkpoint.preprocess) for file in files])
    tokens = checkpoint.tokenizer.encode(captions)
    engine = open_engine(checkpoint, device="cpu", precision="float32")
    reference = engine.encode_pixels(pixels), engine.encode_tokens(tokens)
    found = []
    if (clip := _load_transformers(folder)) is not None:
        of_pixels, of_tokens, own_pixels = clip
        texts = _in_batches(of_tokens, tokens)
        images = _in_batches(of_pixels, normalised(checkpoint, pixels))
        found.append(_compared("transformers", (images, texts), reference))
        own = of_pixels(own_pixels(files)), reference[1]
        row = _compared("transformers, its own preprocessing", own, reference)
        found.append(replace(row, texts=None))
    exports: dict[str, Callable[[Path], tuple[Encode, Encode] | None]] = {
        "openvino": open_openvino,
        "onnx": lambda path: open_onnx(checkpoint, path),
    }
    for name, open_export in exports.items():
        if (folder / name).is_dir() and (opened := open_export(folder / name)) is not None:
            vectors = _in_batches(opened[0], pixels), _in_batches(opened[1], tokens)
            found.append(_compared(name, vectors, reference))
    return tuple(found)


def _readable(pictures: Sequence[ImageRef]) -> tuple[list[DecodedOrBytes], list[str]]:
    images: dict[str, DecodedOrBytes] = {}
    for picture in pictures:
        caption = picture.caption or picture.image_id
        if caption in images:
            continue  # the best of two equal captions is undefined
        try:
            image = fetch_image(picture.source)
            open_image(image, target_px=32)
        except FashionCLIPError:
            continue
        images[caption] = image
        if len(images) == MAX_IMAGES:
            break
    if not images:
        message = f"none of the {len(pictures)} images for the parity check can be read"
        raise PublishError(message)
    return list(images.values()), list(images)


def _in_batches(encode: Encode, rows: np.ndarray) -> np.ndarray:
    starts = range(0, len(rows), _BATCH_SIZE)
    return np.concatenate([encode(rows[start : start + _BATCH_SIZE]) for start in starts])


def _compared(name: str, vectors: Vectors, reference: Vectors) -> Parity:
    images, texts = vectors
    best = (images @ texts.T).argmax(axis=1)
    expected = (reference[0] @ reference[1].T).argmax(axis=1)
    return Parity(
        name=name,
        images=float((images * reference[0]).sum(axis=1).min()),
        texts=float((texts * reference[1]).sum(axis=1).min()),
        same_best=float((best == expected).mean()),
        n=len(images),
    )


def _load_transformers(
    folder: Path,
) -> tuple[Encode, Encode, Callable[[Sequence[DecodedOrBytes]], np.ndarray]] | None:
    """``CLIPModel`` on normalised pixels and tokens, and its preprocessing; None without it."""
    try:
        import torch
        from transformers import CLIPImageProcessor, CLIPModel
    except ImportError:
        return None
    model = _quietly(lambda: CLIPModel.from_pretrained(folder, dtype=torch.float32))
    processor = _quietly(lambda: CLIPImageProcessor.from_pretrained(folder))

    @torch.inference_mode()
    def of_pixels(pixels: np.ndarray) -> np.ndarray:
        states = model.vision_model(torch.from_numpy(pixels))
        return to_unit(model.visual_projection(states.pooler_output).numpy())

    @torch.inference_mode()
    def of_tokens(tokens: np.ndarray) -> np.ndarray:
        states = model.text_model(torch.from_numpy(tokens.astype(np.int64)))
        return to_unit(model.text_projection(states.pooler_output).numpy())

    def own_pixels(files: Sequence[DecodedOrBytes]) -> np.ndarray:
        images = [open_image(file) for file in files]
        pixels = _quietly(lambda: processor(images, return_tensors="pt")["pixel_values"])
        return np.asarray(pixels)

    return of_pixels, of_tokens, own_pixels


def _quietly(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the call returns
    """Call transformers without its deprecation warnings and progress bars."""
    from transformers.utils import logging

    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
