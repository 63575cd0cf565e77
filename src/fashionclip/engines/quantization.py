"""What int8 needs to know: the range of what enters each linear layer, and weights in steps.

Weights are quantised per output channel, symmetrically. Activations have one scale and
one zero a tensor, after the difficulty of their loud channels has been moved into the
weights (Xiao et al. 2023, SmoothQuant). Pure NumPy; the graph and the engine do the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8
from numpy.typing import NDArray

LEVELS = 256
LARGEST_WEIGHT = 127
LARGEST_WITHOUT_VNNI = 64
"""Without VNNI an x86 CPU adds two products of a byte each in 16 bits: 2 * 255 * 64 still fits."""
SMOOTHING = 0.5  # Xiao et al. 2023, section 4: half of the difficulty goes to the weights
_SHARED = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class ActivationRange:
    """How the input of a linear layer is brought to 8 bits."""

    channels: Float[np.ndarray, " channel"]
    """Each channel is divided by this first; the weights are multiplied by it."""
    low: np.float32
    """Smallest value after that, of the whole tensor."""
    high: np.float32


Ranges = Mapping[str, ActivationRange]
"""By ``input_name``."""


def input_name(linear_name: str) -> str:
    """Name of what enters a linear layer: query, key and value have one input."""
    block, _, last = linear_name.rpartition(".")
    return block if last in _SHARED else linear_name


def weights_by_input(
    weights: Mapping[str, NDArray[np.floating]], prefix: str, names: list[str]
) -> dict[str, Float[np.ndarray, " channel"]]:
    """Largest magnitude in each column of the weights that read an input, by input."""
    loudest: dict[str, NDArray[np.float32]] = {}
    for name in names:
        parts = [f"{name}.{part}" for part in _SHARED] if name.endswith("self_attn") else [name]
        loudest[name] = np.max(
            [np.abs(weights[f"{prefix}.{part}.weight"]).max(axis=0) for part in parts], axis=0
        ).astype(np.float32)
    return loudest


def activation_range(
    low: Float[np.ndarray, " channel"],
    high: Float[np.ndarray, " channel"],
    loudest_weights: Float[np.ndarray, " channel"],
) -> ActivationRange:
    """Set the range of an input by what was seen in each of its channels.

    Args:
        low: least value of each channel.
        high: largest value of each channel.
        loudest_weights: largest magnitude of the weights that read each channel.

    Source: Xiao et al. 2023, equation 4.
    """
    loudest = np.maximum(np.maximum(-low, high), 1e-5)
    channels = loudest**SMOOTHING / np.maximum(loudest_weights, 1e-5) ** (1 - SMOOTHING)
    channels = np.maximum(channels / np.exp(np.log(channels).mean()), 1e-3).astype(np.float32)
    least = min(float((low / channels).min()), 0.0)
    step = max(float((high / channels).max()) - least, 1e-6) / (LEVELS - 1)
    zero = round(-least / step)  # zero must be one of the levels
    return ActivationRange(
        channels, np.float32(-zero * step), np.float32((LEVELS - 1 - zero) * step)
    )


def quantize_weight(
    weight: Float[np.ndarray, "out channel"], *, largest: int = LARGEST_WEIGHT
) -> tuple[Int8[np.ndarray, "out channel"], Float[np.ndarray, "out 1"]]:
    """Weights in whole steps of -largest…largest, and each row's step."""
    weight = np.asarray(weight, np.float32)
    steps = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-12) / largest
    return np.rint(weight / steps).astype(np.int8), steps.astype(np.float32)
