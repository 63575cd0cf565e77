"""An image and the vectors of words → where the words are.

Each patch of a frame is compared with each word and with the contrast texts. What it says for a
word is the word's probability against the contrast texts, a softmax at the model's own temperature.
Patches alone say little of whether a word is there at all, so a map is the geometric mean of what
the patch and the whole frame say. Its scale depends on the model alone, never on the picture: an
absent word stays dark.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from fashionclip.checkpoint import Checkpoint
from fashionclip.engines import Engine
from fashionclip.images.decode import fit_image
from fashionclip.localization.frames import check_image, cut, spread, whole_frame, windows_of
from fashionclip.localization.result import Localization

RASTER_PX = 112
"""Long side of the raster that maps are computed on."""
SYNONYM_SHARE = 0.65
"""A contrast text means nearly the same as a word if its cosine is this share of the way from the
mean cosine of the usual contrast texts to 1. Models differ in that mean."""
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
    usual_vectors: Float[np.ndarray, "usual dim"],
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
        usual_vectors: unit vectors of ``CONTRASTS``: how alike texts are to this model.
        windows: 1 for the whole image, 2 for overlapping windows at twice the size as well.

    Raises:
        ImageError: the image has one colour, or is too long.
        ValueError: every contrast text means nearly the same as a word.
    """
    check_image(image)
    is_other = differing(word_vectors, contrast_vectors, usual_vectors)
    for word, others in zip(words, is_other, strict=True):
        if not others.any():
            message = f"every contrast text means nearly the same as '{word}'; pass others"
            raise ValueError(message)
    pre = checkpoint.preprocess
    whole = fit_image(image, replace(pre, fit="pad") if pre.fit == "crop" else pre)
    scales = [[whole_frame(image.size, pre)]]
    pixels = [whole[None]]
    if windows == ZOOM:
        scales.append(windows_of(image.size, pre, ZOOM))
        pixels.append(cut(image, scales[1], pre))
    vectors = engine.encode_patches(np.concatenate(pixels), checkpoint.config.patch_attention)
    side = round((vectors.shape[1] - 1) ** 0.5)
    temperature = float(np.exp(checkpoint.config.logit_scale))
    raster = _raster(image.size)
    cells = np.empty((len(words), raster[1], raster[0]), np.float32)
    for start in range(0, len(words), WORDS_AT_A_TIME):
        some = slice(start, start + WORDS_AT_A_TIME)
        odds = log_odds(vectors, word_vectors[some], contrast_vectors, is_other[some], temperature)
        patches = odds[:, 1:].reshape(len(odds), side, side, -1)
        both = np.concatenate([patches, np.broadcast_to(odds[:, None, :1], patches.shape)], axis=3)
        at, layers = 0, []
        for frames in scales:
            layers.append(spread(both[at : at + len(frames)], frames, image.size, raster))
            at += len(frames)
        parts = np.split(np.mean(layers, axis=0).transpose(2, 0, 1), 2)
        cells[some] = np.sqrt(np.prod([1.0 / (1.0 + np.exp(-part)) for part in parts], axis=0))
    return Localization(words, image.size, cells, tuple(map(float, cells.max(axis=(1, 2)))))


def log_odds(
    vectors: Float[np.ndarray, "*place dim"],
    words: Float[np.ndarray, "word dim"],
    contrasts: Float[np.ndarray, "contrast dim"],
    is_other: Bool[np.ndarray, "word contrast"],
    temperature: float,
) -> Float[np.ndarray, "*place word"]:
    """Log odds of each word against the contrast texts: the logit of a softmax over both.

    Args:
        vectors: unit vectors of places.
        words: unit vectors.
        contrasts: unit vectors.
        is_other: which contrast texts each word is compared with.
        temperature: factor of cosines.
    """
    logits = temperature * (vectors @ words.T)
    others = temperature * (vectors @ contrasts.T)
    powers = np.exp(others - others.max(axis=-1, keepdims=True))
    sums = powers @ is_other.T.astype(np.float32)
    against = np.log(np.maximum(sums, 1e-30)) + others.max(axis=-1, keepdims=True)
    return np.asarray(logits - against, np.float32)


def differing(
    words: Float[np.ndarray, "word dim"],
    contrasts: Float[np.ndarray, "contrast dim"],
    usual: Float[np.ndarray, "usual dim"],
) -> Bool[np.ndarray, "word contrast"]:
    """Whether a contrast text means something else than a word, by their vectors.

    Args:
        words: unit vectors.
        contrasts: unit vectors.
        usual: unit vectors of several usual texts; their mean cosine is the model's zero.
    """
    n = len(usual)
    cosines = usual @ usual.T
    mean = (cosines.sum() - np.trace(cosines)) / (n * (n - 1))
    return np.asarray(words @ contrasts.T < mean + SYNONYM_SHARE * (1 - mean))


def _raster(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the raster of an image; a small image has one cell a pixel."""
    scale = min(1.0, RASTER_PX / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
