"""An image and the vectors of words → where the words are.

Each patch of a frame is compared with each word and with the contrast texts. What a patch says for
a word is the probability of the word against the contrast texts, a softmax at the model's own
temperature. Its scale depends on the model alone, never on the picture, so an absent word stays
dark.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from PIL import Image

from fashionclip.checkpoint import Checkpoint
from fashionclip.engines import Engine
from fashionclip.images.decode import fit_image
from fashionclip.localization.frames import check_image, cut, spread, whole_frame, windows_of
from fashionclip.localization.result import Localization

RASTER_PX = 112
"""Long side of the raster that maps are computed on."""
SYNONYM_COSINE = 0.85
"""A contrast text as close to a word as this means nearly the same."""
WORDS_AT_A_TIME = 50
"""Bounds the memory for any number of words."""
ZOOM = 2


def localize(
    engine: Engine,
    checkpoint: Checkpoint,
    image: Image.Image,
    words: tuple[str, ...],
    word_vectors: Float[np.ndarray, "word dim"],
    contrast_vectors: Float[np.ndarray, "contrast dim"],
    *,
    windows: int = 1,
) -> Localization:
    """Find words in an image.

    Args:
        engine: of the checkpoint.
        checkpoint: its ``config.patch_attention`` says how patches are computed.
        image: upright RGB.
        words: as they are reported.
        word_vectors: unit vectors.
        contrast_vectors: unit vectors of what else there may be.
        windows: 1 for the whole image, 2 for overlapping windows at twice the size as well.

    Raises:
        ImageError: the image has one colour, or is too long.
    """
    check_image(image)
    pre = checkpoint.preprocess
    whole = fit_image(image, replace(pre, fit="pad") if pre.fit == "crop" else pre)
    scales = [[whole_frame(image.size, pre)]]
    pixels = [whole[None]]
    if windows == ZOOM:
        scales.append(windows_of(image.size, pre, ZOOM))
        pixels.append(cut(image, scales[1], pre))
    vectors = engine.encode_patches(np.concatenate(pixels), checkpoint.config.patch_attention)
    side = round((vectors.shape[1] - 1) ** 0.5)
    grids = vectors[:, 1:].reshape(len(vectors), side, side, -1)
    temperature = float(np.exp(checkpoint.config.logit_scale))
    raster = _raster(image.size)
    cells = np.empty((len(words), raster[1], raster[0]), np.float32)
    for start in range(0, len(words), WORDS_AT_A_TIME):
        some = slice(start, start + WORDS_AT_A_TIME)
        odds = log_odds(grids, word_vectors[some], contrast_vectors, temperature)
        at, layers = 0, []
        for frames in scales:
            part = odds[at : at + len(frames)]
            layers.append(spread(part, frames, image.size, raster))
            at += len(frames)
        logits = np.mean(layers, axis=0).transpose(2, 0, 1)
        cells[some] = 1.0 / (1.0 + np.exp(-logits))
    return Localization(words, image.size, cells, tuple(map(float, cells.max(axis=(1, 2)))))


def log_odds(
    vectors: Float[np.ndarray, "*place dim"],
    words: Float[np.ndarray, "word dim"],
    contrasts: Float[np.ndarray, "contrast dim"],
    temperature: float,
) -> Float[np.ndarray, "*place word"]:
    """Log odds of each word against the contrast texts: the logit of a softmax over both.

    A contrast text that means nearly the same as a word is left out for it.

    Args:
        vectors: unit vectors of places.
        words: unit vectors.
        contrasts: unit vectors.
        temperature: factor of cosines.
    """
    logits = temperature * (vectors @ words.T)
    others = temperature * (vectors @ contrasts.T)
    is_other = words @ contrasts.T < SYNONYM_COSINE
    powers = np.exp(others - others.max(axis=-1, keepdims=True))
    sums = powers @ is_other.T.astype(np.float32)
    against = np.log(np.maximum(sums, 1e-30)) + others.max(axis=-1, keepdims=True)
    return np.asarray(logits - against, np.float32)


def _raster(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the raster of an image; a small image has one cell a pixel."""
    scale = min(1.0, RASTER_PX / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
