"""How far each export's vectors are from this package's own, on real pictures and words.

The reference is this package in float32, which is what figures in the card were measured with,
but for the engine's precision. Pictures go the whole way, from the file on.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from fashionclip.checkpoint import Checkpoint, open_checkpoint
from fashionclip.engines import open_engine
from fashionclip.engines.io import to_unit
from fashionclip.errors import FashionCLIPError, PublishError
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.decode import open_image, preprocess
from fashionclip.images.fetch import read_image_bytes
from fashionclip.publish.exports import normalised, open_onnx, open_openvino

MOST = 64
"""Pictures that are compared."""
_AT_ONCE = 16

Encode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Parity:
    """One export against the reference."""

    name: str
    """``transformers``, ``openvino``, ``onnx``; ``transformers, its own preprocessing``."""
    pictures: float
    """Least cosine of a picture's two vectors."""
    texts: float | None
    """Least cosine of a text's two vectors; None where texts are those of the row above."""
    same_first: float
    """Share of pictures whose first text is the same as the reference's."""
    n: int
    """Pictures, and as many texts."""


def measure_parity(folder: Path, pictures: Sequence[ImageRef]) -> tuple[Parity, ...]:
    """Compare every export that lies in a published folder.

    Args:
        folder: a transformers folder, with ``openvino/`` and ``onnx/`` in it if there are any.
        pictures: with captions; the first ``MOST`` that can be read and have a caption of
            their own are taken.

    Raises:
        PublishError: not one picture can be read.
        CheckpointError: the folder is no checkpoint.
    """
    checkpoint = open_checkpoint(folder)
    files, captions = _readable(pictures)
    pixels = np.stack([preprocess(file, checkpoint.preprocess) for file in files])
    tokens = checkpoint.tokenizer.encode(captions)
    engine = open_engine(checkpoint, device="cpu", precision="float32")
    reference = engine.encode_pixels(pixels), engine.encode_tokens(tokens)
    found = []
    for name, encode_pixels, encode_tokens in _openers(checkpoint, folder):
        vectors = _in_batches(encode_pixels, pixels), _in_batches(encode_tokens, tokens)
        found.append(_compared(name, vectors, reference))
    if (own := _by_transformers_own(folder, files)) is not None:
        row = _compared("transformers, its own preprocessing", (own, reference[1]), reference)
        found.insert(1, Parity(row.name, row.pictures, None, row.same_first, row.n))
    return tuple(found)


def _openers(checkpoint: Checkpoint, folder: Path) -> Iterator[tuple[str, Encode, Encode]]:
    if (theirs := _open_transformers(checkpoint, folder)) is not None:
        yield "transformers", *theirs
    if (folder / "openvino").is_dir():
        yield "openvino", *open_openvino(folder / "openvino")
    if (folder / "onnx").is_dir() and (opened := open_onnx(checkpoint, folder / "onnx")):
        yield "onnx", *opened


def _readable(pictures: Sequence[ImageRef]) -> tuple[list[bytes | np.ndarray], list[str]]:
    files: list[bytes | np.ndarray] = []
    captions: list[str] = []
    for picture in pictures:
        if len(files) == MOST:
            break
        source = picture.source
        caption = picture.caption or picture.image_id
        if caption in captions:
            continue  # of two equal captions either may come first
        try:
            file = read_image_bytes(str(source)) if isinstance(source, str | Path) else source
            open_image(file, target_px=32)
        except FashionCLIPError:
            continue
        files.append(file)
        captions.append(caption)
    if not files:
        message = f"none of the {len(pictures)} pictures for the parity check can be read"
        raise PublishError(message)
    return files, captions


def _in_batches(encode: Encode, rows: np.ndarray) -> np.ndarray:
    parts = [encode(rows[start : start + _AT_ONCE]) for start in range(0, len(rows), _AT_ONCE)]
    return np.concatenate(parts)


def _compared(
    name: str,
    vectors: tuple[Float[np.ndarray, "n dim"], Float[np.ndarray, "n dim"]],
    reference: tuple[Float[np.ndarray, "n dim"], Float[np.ndarray, "n dim"]],
) -> Parity:
    pictures, texts = vectors
    first = (pictures @ texts.T).argmax(axis=1)
    expected = (reference[0] @ reference[1].T).argmax(axis=1)
    return Parity(
        name=name,
        pictures=float((pictures * reference[0]).sum(axis=1).min()),
        texts=float((texts * reference[1]).sum(axis=1).min()),
        same_first=float((first == expected).mean()),
        n=len(pictures),
    )


def _open_transformers(checkpoint: Checkpoint, folder: Path) -> tuple[Encode, Encode] | None:
    """``CLIPModel`` on the pixels and tokens that this package makes; None without transformers."""
    try:
        import torch
        from transformers import CLIPModel
    except ImportError:
        return None
    model = _quietly(lambda: CLIPModel.from_pretrained(folder, dtype=torch.float32))

    @torch.inference_mode()
    def encode_pixels(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n dim"]:
        states = model.vision_model(torch.from_numpy(normalised(checkpoint, pixels)))
        return to_unit(model.visual_projection(states.pooler_output).numpy())

    @torch.inference_mode()
    def encode_tokens(tokens: np.ndarray) -> np.ndarray:
        states = model.text_model(torch.from_numpy(tokens.astype(np.int64)))
        return to_unit(model.text_projection(states.pooler_output).numpy())

    return encode_pixels, encode_tokens


def _by_transformers_own(
    folder: Path, files: Sequence[bytes | np.ndarray]
) -> Float[np.ndarray, "n dim"] | None:
    """Pictures' vectors with their image processor instead of ours; None without transformers."""
    try:
        import torch
        from transformers import CLIPImageProcessor, CLIPModel
    except ImportError:
        return None
    model = _quietly(lambda: CLIPModel.from_pretrained(folder, dtype=torch.float32))
    processor = _quietly(lambda: CLIPImageProcessor.from_pretrained(folder))
    images = [open_image(file) for file in files]
    pixels = _quietly(lambda: processor(images, return_tensors="pt")["pixel_values"])
    with torch.inference_mode():
        states = model.vision_model(pixels)
        return to_unit(model.visual_projection(states.pooler_output).numpy())


def _quietly(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the call gives
    """Call transformers without its warnings about its own future, and without its bars."""
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
