"""What the engines share: checks of their inputs, unit vectors, the folded first layer.

A wrong shape or type is refused here, because an engine may turn it into plausible numbers.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from fashionclip.checkpoint import CLIPConfig

PIXEL_CENTER = 128
"""Subtracted from each uint8 pixel: bfloat16 holds -128…127 exactly."""
NEIGHBOURHOOD = 5 / 14
"""Standard deviation of NACLIP's Gaussian as a share of the grid's side: 5 of ViT-B/16's 14 patches
(Hajimiri et al. 2024, section 4)."""
QUICK_GELU_SLOPE = 1.702  # Hendrycks & Gimpel 2016, section 2: GELU(x) ~ x sigmoid(1.702 x)


def check_pixels(pixels: np.ndarray, size_px: int) -> np.ndarray:
    """Return the pixels as a contiguous array.

    Raises:
        ValueError: they are not uint8 of shape ``(n, size_px, size_px, 3)``.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size_px, size_px, 3):
        message = (
            f"pixels are {pixels.dtype} {pixels.shape}; this model takes uint8 "
            f"(n, {size_px}, {size_px}, 3), as images.decode.preprocess returns them"
        )
        raise ValueError(message)
    return np.ascontiguousarray(pixels)


def check_tokens(tokens: np.ndarray, config: CLIPConfig) -> np.ndarray:
    """Return the tokens as a contiguous int32 array.

    Raises:
        ValueError: they are not integers of shape ``(n, token)``, exceed the model's context, or
            lie outside its vocabulary.
    """
    max_tokens, vocab_size = config.text.context_length, config.text.vocab_size
    if tokens.dtype.kind not in "iu" or tokens.ndim != 2 or not 1 <= tokens.shape[1] <= max_tokens:
        message = (
            f"tokens are {tokens.dtype} {tokens.shape}; this model takes int32 (n, token) with "
            f"1 to {max_tokens} tokens, as Tokenizer.encode returns them"
        )
        raise ValueError(message)
    if tokens.size and not (int(tokens.min()) >= 0 and int(tokens.max()) < vocab_size):
        message = (
            f"a token is outside the vocabulary of {vocab_size} tokens; the tokenizer belongs to "
            "another model"
        )
        raise ValueError(message)
    return np.ascontiguousarray(tokens, dtype=np.int32)


def end_positions(tokens: Int[np.ndarray, "n token"], config: CLIPConfig) -> Int[np.ndarray, " n"]:
    """Position of each text's end token, whose state becomes the text's vector.

    Early checkpoints name a wrong end token (2): the end is then the highest id, which is the end
    token's in CLIP's vocabulary. Later checkpoints use the first end token.

    Source: ``CLIPTextTransformer`` in transformers, which makes the same distinction.
    """
    is_end = tokens if config.end_of_text == "argmax" else tokens == config.end_id
    ends: np.ndarray = is_end.argmax(axis=1).astype(np.int32)
    return ends


def to_unit(vectors: Float[np.ndarray, "... dim"]) -> Float[np.ndarray, "... dim"]:
    """Scale each vector to length 1, in float32."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: np.ndarray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units


def folded_embeddings(
    weights: Mapping[str, np.ndarray],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> tuple[Float[np.ndarray, "width pixel"], Float[np.ndarray, "token width"]]:
    """The image tower's first layer: weights as in ``fold_normalisation``, and all that is added.

    The class token and the constant part of the patches are added with the positions.
    """
    name = "vision_model.embeddings"
    kernel = np.asarray(weights[f"{name}.patch_embedding.weight"], np.float32)
    folded, offset = fold_normalisation(kernel, mean, std)
    positions = np.array(weights[f"{name}.position_embedding.weight"], np.float32)
    positions[0] += np.asarray(weights[f"{name}.class_embedding"], np.float32)
    positions[1:] += offset
    return folded, positions


def fold_normalisation(
    kernel: Float[np.ndarray, "width 3 patch patch"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> tuple[Float[np.ndarray, "width pixel"], Float[np.ndarray, " width"]]:
    """Fold ``(x / 255 - mean) / std`` into the patch convolution.

    Args:
        kernel: as stored.
        mean: per channel, of pixels in 0…1.
        std: per channel.

    Returns:
        Weights for pixels minus ``PIXEL_CENTER`` (rows, columns, then channels), and the constant
        that is added to their product.
    """
    scaled = kernel.astype(np.float64) / np.reshape(std, (1, 3, 1, 1))
    shift = PIXEL_CENTER / 255.0 - np.reshape(mean, (1, 3, 1, 1))
    offset = (scaled * shift).sum(axis=(1, 2, 3))
    weights = (scaled / 255.0).transpose(0, 2, 3, 1).reshape(len(kernel), -1)
    return weights.astype(np.float32), offset.astype(np.float32)


def neighbourhood(side: int) -> Float[np.ndarray, "token token"]:
    """What NACLIP adds to the logits of attention: a Gaussian of the distance.

    Its largest value is 1; the class token's row and column are 0.

    Args:
        side: patches along one side of the image.

    Source: Hajimiri et al. 2024, equation 5.
    """
    rows, columns = np.divmod(np.arange(side**2), side)
    squares = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    bias = np.zeros((side**2 + 1, side**2 + 1), np.float32)
    bias[1:, 1:] = np.exp(-squares / (2 * (NEIGHBOURHOOD * side) ** 2))
    return bias
