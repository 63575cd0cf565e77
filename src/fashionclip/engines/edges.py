"""What the engines share: arrays on their way in and out, and the first layer's weights.

Wrong shapes and types are refused here with a sentence, before an engine can turn them
into plausible numbers.
"""

import numpy as np
from jaxtyping import Float, Int

from fashionclip.checkpoint import CLIPConfig

PIXEL_CENTER = 128
"""Taken off each uint8 pixel, so that bfloat16, which holds -128…127 exactly, sees both signs."""
QUICK_GELU_SLOPE = 1.702  # Hendrycks & Gimpel 2016, section 2: GELU(x) ~ x sigmoid(1.702 x)


def check_pixels(pixels: np.ndarray, size_px: int) -> np.ndarray:
    """Give the pixels back, contiguous.

    Raises:
        ValueError: they are not uint8 of shape ``(n, size_px, size_px, 3)``.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size_px, size_px, 3):
        message = (
            f"pixels are {pixels.dtype} {pixels.shape}; this model takes uint8 "
            f"(n, {size_px}, {size_px}, 3), as images.preprocess gives them"
        )
        raise ValueError(message)
    return np.ascontiguousarray(pixels)


def check_tokens(tokens: np.ndarray, config: CLIPConfig) -> np.ndarray:
    """Give the tokens back as contiguous int32.

    Raises:
        ValueError: they are not integers of shape ``(n, token)``, are longer than the model's
            context, or name words outside its vocabulary.
    """
    longest, n_words = config.text.context_length, config.text.vocab_size
    if tokens.dtype.kind not in "iu" or tokens.ndim != 2 or not 1 <= tokens.shape[1] <= longest:
        message = (
            f"tokens are {tokens.dtype} {tokens.shape}; this model takes int32 (n, token) with "
            f"1 to {longest} tokens, as Tokenizer.encode gives them"
        )
        raise ValueError(message)
    if tokens.size and not (int(tokens.min()) >= 0 and int(tokens.max()) < n_words):
        message = (
            f"a token lies outside the vocabulary of {n_words} words; the tokenizer belongs to "
            "another model"
        )
        raise ValueError(message)
    return np.ascontiguousarray(tokens, dtype=np.int32)


def end_positions(tokens: Int[np.ndarray, "n token"], config: CLIPConfig) -> Int[np.ndarray, " n"]:
    """Where each text ends: the position whose state becomes the text's vector.

    Checkpoints of the first days name a wrong end token (2) and take the highest id instead,
    which is the end token's in CLIP's vocabulary; later ones take the first end token.

    Source: ``CLIPTextTransformer`` in transformers, which tells the two apart in the same way.
    """
    is_end = tokens if config.end_of_text == "argmax" else tokens == config.end_id
    ends: np.ndarray = is_end.argmax(axis=1).astype(np.int32)
    return ends


def to_unit(vectors: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
    """Bring each row to length 1, in float32 whatever the engine computed in."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units


def fold_normalisation(
    kernel: Float[np.ndarray, "width 3 patch patch"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> tuple[Float[np.ndarray, "width pixel"], Float[np.ndarray, " width"]]:
    """Move ``(x / 255 - mean) / std`` from the pixels into the patch convolution.

    Args:
        kernel: ``(width, 3, patch, patch)``, as stored.
        mean: per channel, of pixels in 0…1.
        std: per channel.

    Returns:
        Weights ``(width, patch * patch * 3)`` for pixels less ``PIXEL_CENTER``, the channel
        innermost, and the constant ``(width,)`` that completes their product.
    """
    scaled = kernel.astype(np.float64) / np.reshape(std, (1, 3, 1, 1))
    shift = PIXEL_CENTER / 255.0 - np.reshape(mean, (1, 3, 1, 1))
    offset = (scaled * shift).sum(axis=(1, 2, 3))
    weights = (scaled / 255.0).transpose(0, 2, 3, 1).reshape(len(kernel), -1)
    return weights.astype(np.float32), offset.astype(np.float32)
