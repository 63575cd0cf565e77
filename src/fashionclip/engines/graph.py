"""Both CLIP towers as OpenVINO graphs, built from the checkpoint's weights without PyTorch.

The core install has no PyTorch that could be traced or converted, so a few functions add one
operation after the other. Pixels enter as uint8; scaling and normalisation are folded into the
first layer. The last layer computes only the token that is read: the class token, or the end of
the text. The engine scales the vectors to unit length.

For int8, weights are quantized symmetrically per output channel. Activations have one scale and
one zero point per tensor, after SmoothQuant has moved large channels into the weights.

Source: Radford et al. 2021 (CLIP); Xiao et al. 2023 (SmoothQuant); weights are named as in
``transformers.CLIPModel``.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder

import numpy as np
from jaxtyping import Float, Int8
from numpy.typing import NDArray

from fashionclip.checkpoint import CLIPConfig, TowerConfig
from fashionclip.engines.io import PIXEL_CENTER, QUICK_GELU_SLOPE, folded_embeddings


class _NoTelemetry(MetaPathFinder):
    """Reports OpenVINO's telemetry package as not installed."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "openvino_telemetry":
            raise ModuleNotFoundError(name=fullname)


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Disable OpenVINO's telemetry while it is imported.

    Importing OpenVINO sends a usage event, unless a file in the home folder forbids it. Without
    the telemetry package OpenVINO uses a stub of its own instead; nothing else changes.
    """
    finder = _NoTelemetry()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


with _without_telemetry():
    import openvino as ov
    from openvino import opset13 as op

__all__ = ["Tower", "extremes", "image_tower", "op", "ov", "text_tower"]

LEVELS = 256
MAX_WEIGHT = 127
MAX_WEIGHT_WITHOUT_VNNI = 64
"""Without VNNI an x86 CPU adds two products of bytes in 16 bits: 2 * 255 * 64 still fits."""
SMOOTHING = 0.5  # Xiao et al. 2023, section 4: half of the difficulty goes to the weights
_SHARED_INPUT = ("q_proj", "k_proj", "v_proj")

Weights = Mapping[str, NDArray[np.floating]]
Attend = Callable[[ov.Node, ov.Node, ov.Node], ov.Node]
"""Masked attention of query, key and value ``(n, head, token, channel)``."""
Pick = Callable[[ov.Node], ov.Node]
"""All tokens ``(n, token, width)`` to the one that is read ``(n, 1, width)``."""


@dataclass(frozen=True, slots=True)
class ActivationRange:
    """How the input of a linear layer is quantized to 8 bits."""

    channels: Float[np.ndarray, " channel"]
    """Each channel is divided by this first; the weights are multiplied by it."""
    low: np.float32
    """Smallest value of the whole tensor after that."""
    high: np.float32


Ranges = Mapping[str, ActivationRange]
"""By ``input_name``."""


@dataclass
class Tower:
    """The state that the layers of one tower share while the graph is built."""

    weights: Weights
    prefix: str
    """``text_model`` or ``vision_model``."""
    config: TowerConfig
    ranges: Ranges | None = None
    """Ranges of the linear layers' inputs, for int8; None for floats."""
    max_weight: int = MAX_WEIGHT
    """Largest magnitude of an int8 weight."""
    inputs: dict[str, ov.Node] = field(default_factory=dict)
    """Inputs of the linear layers, for calibration; query, key and value share one."""
    _quantized: dict[tuple[str, int], ov.Node] = field(default_factory=dict)

    def constant(self, name: str) -> ov.Node:
        """A weight by its name below the prefix, as a float32 node."""
        return _constant(self.weights[f"{self.prefix}.{name}"])

    def linear(self, x: ov.Node, name: str) -> ov.Node:
        """``x @ weight.T + bias`` over the last axis, in int8 where ranges are given."""
        weight = self.weights[f"{self.prefix}.{name}.weight"]
        shared = input_name(name)
        if self.ranges is None:
            self.inputs.setdefault(shared, x)
            product = op.matmul(x, _constant(weight), False, True)
        else:
            product = self._int8_product(x, weight, self.ranges[shared])
        return op.add(product, self.constant(f"{name}.bias"))

    def _int8_product(
        self, x: ov.Node, weight: NDArray[np.floating], limits: ActivationRange
    ) -> ov.Node:
        if (key := (x.get_name(), id(limits))) not in self._quantized:
            even = op.multiply(x, _constant(1.0 / limits.channels))
            high = op.constant(limits.high)
            low = op.constant(limits.low)
            self._quantized[key] = op.fake_quantize(even, low, high, low, high, LEVELS)
        levels, steps = quantize_weight(weight * limits.channels, max_level=self.max_weight)
        scaled = op.multiply(op.convert(op.constant(levels), "f32"), _constant(steps))
        return op.matmul(self._quantized[key], scaled, False, True)

    def norm(self, x: ov.Node, name: str) -> ov.Node:
        """Layer norm over the last axis."""
        normal = op.mvn(x, ints(-1), True, self.config.layer_norm_eps, "INSIDE_SQRT")
        scaled = op.multiply(normal, self.constant(f"{name}.weight"))
        return op.add(scaled, self.constant(f"{name}.bias"))

    def attention(self, x: ov.Node, queries: ov.Node, name: str, attend: Attend) -> ov.Node:
        """Multi-head attention of ``queries`` to the tokens of ``x``."""
        heads, width = self.config.heads, self.config.width

        def by_head(tokens: ov.Node, part: str) -> ov.Node:
            flat = self.linear(tokens, f"{name}.{part}_proj")
            return op.transpose(
                op.reshape(flat, ints(0, 0, heads, width // heads), True), ints(0, 2, 1, 3)
            )

        # one product for all three measured no faster than three, and would copy the weights
        mixed = attend(by_head(queries, "q"), by_head(x, "k"), by_head(x, "v"))
        flat = op.reshape(op.transpose(mixed, ints(0, 2, 1, 3)), ints(0, 0, width), True)
        return self.linear(flat, f"{name}.out_proj")

    def layers(self, x: ov.Node, attend: Attend, pick: Pick, last_attend: Attend) -> ov.Node:
        """All layers; the last one computes only the token that ``pick`` selects."""
        for i_layer in range(self.config.layers - 1):
            x = self.layer(x, i_layer, attend)
        return self.layer(x, self.config.layers - 1, last_attend, pick)

    def layer(
        self, x: ov.Node, i_layer: int, attend: Attend, pick: Pick = lambda tokens: tokens
    ) -> ov.Node:
        """One layer, of all tokens or of the one that ``pick`` selects."""
        name = f"encoder.layers.{i_layer}"
        normal = self.norm(x, f"{name}.layer_norm1")
        attended = self.attention(normal, pick(normal), f"{name}.self_attn", attend)
        x = op.add(pick(x), attended)
        return op.add(x, self.mlp(x, name))

    def mlp(self, x: ov.Node, name: str) -> ov.Node:
        """A layer's MLP, with its norm, without its residual connection."""
        hidden = self.linear(self.norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1")
        hidden = _ACTIVATIONS[self.config.activation](hidden)
        return self.linear(hidden, f"{name}.mlp.fc2")


def image_tower(
    config: CLIPConfig,
    weights: Weights,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    ranges: Ranges | None = None,
    max_weight: int = MAX_WEIGHT,
) -> tuple[ov.Model, dict[str, ov.Node]]:
    """Build the image tower: uint8 pixels ``(n, h, w, 3)`` to float32 ``(n, dim)``.

    Args:
        config: the checkpoint's sizes.
        weights: by their names in ``transformers``; float32 or float16.
        mean: subtracted from each channel of pixels in 0…1.
        std: divides each channel after that.
        ranges: for int8 linear layers; None for floats.
        max_weight: largest magnitude of an int8 weight.

    Returns:
        The graph, and the input of each linear layer by ``input_name``.
    """
    tower = Tower(weights, "vision_model", config.vision, ranges, max_weight)
    pixels, x = embedded_pixels(tower, config, mean=mean, std=std)
    x = tower.layers(x, attend_to_all, class_token, attend_to_all)
    vectors = projected(tower, op.squeeze(x, ints(1)))
    return ov.Model([vectors], [pixels], "image_tower"), tower.inputs


def embedded_pixels(
    tower: Tower,
    config: CLIPConfig,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> tuple[ov.Node, ov.Node]:
    """The parameter of uint8 pixels, and the first layer's input ``(n, token, width)``."""
    vision = config.vision
    pixels = op.parameter([-1, vision.image_px, vision.image_px, 3], np.uint8, name="pixels")
    x = _patches(pixels, vision.image_px // vision.patch_px, vision.patch_px)
    kernel, positions = folded_embeddings(tower.weights, mean, std)
    x = op.matmul(x, _constant(kernel), False, True)
    no_class = op.pad(x, ints(0, 1, 0), ints(0, 0, 0), "constant", np.float32(0))
    x = op.add(no_class, _constant(positions))
    return pixels, tower.norm(x, "pre_layrnorm")  # the misspelling is in every checkpoint


def attend_to_all(query: ov.Node, key: ov.Node, value: ov.Node) -> ov.Node:
    """CLIP's own attention of the image tower."""
    return op.scaled_dot_product_attention(query, key, value)


def class_token(tokens: ov.Node) -> ov.Node:
    """The first token."""
    return op.slice(tokens, ints(0), ints(1), ints(1), ints(1))


def projected(tower: Tower, states: ov.Node) -> ov.Node:
    """Last states of the image tower to vectors, not of unit length."""
    normal = tower.norm(states, "post_layernorm")
    return op.matmul(normal, _constant(tower.weights["visual_projection.weight"]), False, True)


def text_tower(config: CLIPConfig, weights: Weights) -> ov.Model:
    """Build the text tower: int32 ``tokens (n, token)`` and ``ends (n,)`` to ``(n, dim)``.

    Args:
        config: the checkpoint's sizes. ``ends`` holds the position of each text's end token;
            tokens after it have no effect.
        weights: by their names in ``transformers``; float32 or float16.
    """
    tower = Tower(weights, "text_model", config.text)
    tokens = op.parameter([-1, -1], np.int32, name="tokens")
    ends = op.parameter([-1], np.int32, name="ends")
    length = op.gather(op.shape_of(tokens), ints(1), op.constant(np.int64(0)))
    x = op.gather(
        tower.constant("embeddings.token_embedding.weight"), tokens, op.constant(np.int64(0))
    )
    positions = tower.constant("embeddings.position_embedding.weight")
    x = op.add(x, op.slice(positions, ints(0), length, ints(1), ints(0)))
    ends_column = op.unsqueeze(ends, ints(1))

    def end_token(states: ov.Node) -> ov.Node:
        return op.gather(states, ends_column, op.constant(np.int64(1)), 1)

    steps = op.range(
        op.constant(np.int32(0)),
        op.convert(op.squeeze(length, ints(0)), "i32"),
        op.constant(np.int32(1)),
        "i32",
    )
    is_read = op.less_equal(op.unsqueeze(steps, ints(0)), ends_column)
    is_read = op.unsqueeze(is_read, ints(1, 2))

    def attend_before(query: ov.Node, key: ov.Node, value: ov.Node) -> ov.Node:
        return op.scaled_dot_product_attention(query, key, value, causal=True)

    def attend_up_to_end(query: ov.Node, key: ov.Node, value: ov.Node) -> ov.Node:
        return op.scaled_dot_product_attention(query, key, value, is_read)

    x = tower.layers(x, attend_before, end_token, attend_up_to_end)
    x = tower.norm(op.squeeze(x, ints(1)), "final_layer_norm")
    vectors = op.matmul(x, _constant(weights["text_projection.weight"]), False, True)
    return ov.Model([vectors], [tokens, ends], "text_tower")


def extremes(model: ov.Model, inputs: Mapping[str, ov.Node]) -> ov.Model:
    """A graph of the minimum, then the maximum of each channel of each input."""
    axes = ints(0, 1)
    lows = [op.reduce_min(node, axes, False) for node in inputs.values()]
    highs = [op.reduce_max(node, axes, False) for node in inputs.values()]
    return ov.Model(lows + highs, model.get_parameters(), "extremes")


def input_name(linear_name: str) -> str:
    """Name of a linear layer's input: query, key and value share one."""
    block, _, last = linear_name.rpartition(".")
    return block if last in _SHARED_INPUT else linear_name


def max_weights_by_input(
    weights: Weights, prefix: str, names: list[str]
) -> dict[str, Float[np.ndarray, " channel"]]:
    """Largest weight magnitude per channel of each input of linear layers."""
    found: dict[str, NDArray[np.float32]] = {}
    for name in names:
        parts = [f"{name}.{part}" for part in _SHARED_INPUT]
        linears = parts if name.endswith("self_attn") else [name]
        maxima = [np.abs(weights[f"{prefix}.{part}.weight"]).max(axis=0) for part in linears]
        found[name] = np.max(maxima, axis=0).astype(np.float32)
    return found


def activation_range(
    low: Float[np.ndarray, " channel"],
    high: Float[np.ndarray, " channel"],
    max_weights: Float[np.ndarray, " channel"],
) -> ActivationRange:
    """Compute an input's range from what calibration saw in each channel.

    Args:
        low: smallest value of each channel.
        high: largest value of each channel.
        max_weights: largest magnitude of the weights that read each channel.

    Source: Xiao et al. 2023, equation 4.
    """
    max_values = np.maximum(np.maximum(-low, high), 1e-5)
    channels = max_values**SMOOTHING / np.maximum(max_weights, 1e-5) ** (1 - SMOOTHING)
    channels = np.maximum(channels / np.exp(np.log(channels).mean()), 1e-3).astype(np.float32)
    minimum = min(float((low / channels).min()), 0.0)
    step = max(float((high / channels).max()) - minimum, 1e-6) / (LEVELS - 1)
    zero = round(-minimum / step)  # zero must be one of the levels
    return ActivationRange(
        channels, np.float32(-zero * step), np.float32((LEVELS - 1 - zero) * step)
    )


def quantize_weight(
    weight: Float[np.ndarray, "out channel"], *, max_level: int = MAX_WEIGHT
) -> tuple[Int8[np.ndarray, "out channel"], Float[np.ndarray, "out 1"]]:
    """Quantize weights to -max_level…max_level; returns them and the step of each row."""
    weight = np.asarray(weight, np.float32)
    steps = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-12) / max_level
    return np.rint(weight / steps).astype(np.int8), steps.astype(np.float32)


def _patches(pixels: ov.Node, side: int, patch: int) -> ov.Node:
    grid = op.reshape(pixels, ints(0, side, patch, side, patch * 3), True)
    rows = op.transpose(grid, ints(0, 1, 3, 2, 4))  # still bytes: a quarter of the traffic
    flat = op.reshape(rows, ints(0, side * side, patch * patch * 3), True)
    return op.subtract(op.convert(flat, "f32"), op.constant(np.float32(PIXEL_CENTER)))


def _quick_gelu(x: ov.Node) -> ov.Node:
    slope = op.constant(np.float32(QUICK_GELU_SLOPE))
    return op.multiply(x, op.sigmoid(op.multiply(x, slope)))


def _gelu(x: ov.Node) -> ov.Node:
    return op.gelu(x, "erf")


_ACTIVATIONS = {"quick_gelu": _quick_gelu, "gelu": _gelu}


def _constant(array: NDArray[np.floating]) -> ov.Node:
    node = op.constant(np.ascontiguousarray(array), shared_memory=True)
    return node if array.dtype == np.float32 else op.convert(node, "f32")


def ints(*values: int) -> ov.Node:
    """A constant of int64."""
    return op.constant(np.array(values, np.int64))
