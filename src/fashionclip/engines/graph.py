"""Both towers of a CLIP as OpenVINO graphs, built straight from the checkpoint's weights.

No tracing and no PyTorch: a few functions lay one operation after the other. Pictures
enter as uint8; scaling and normalising are folded into the first layer. The last layer
computes only the token that is read, the class token or the end of the text. Vectors
leave with the length that the projection gives them; the engine normalises them.

Source: Radford et al. 2021 (CLIP); names of weights as in ``transformers.CLIPModel``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import openvino as ov
import openvino.opset13 as op
from numpy.typing import NDArray

from fashionclip.checkpoint import CLIPConfig, TowerConfig
from fashionclip.engines.edges import PIXEL_CENTER, QUICK_GELU_SLOPE, fold_normalisation
from fashionclip.engines.quantization import (
    LARGEST_WEIGHT,
    LEVELS,
    ActivationRange,
    Ranges,
    input_name,
    quantize_weight,
)

Weights = Mapping[str, NDArray[np.floating]]


@dataclass
class Tower:
    """What the layers of one tower share while it is laid."""

    weights: Weights
    prefix: str
    """``text_model`` or ``vision_model``."""
    config: TowerConfig
    ranges: Ranges | None = None
    """Ranges of what enters the linear layers, which makes them int8; None for floats."""
    largest_weight: int = LARGEST_WEIGHT
    """Of the steps that int8 weights are written in."""
    inputs: dict[str, ov.Node] = field(default_factory=dict)
    """What enters the linear layers, for calibration; query, key and value share one input."""
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
        levels, steps = quantize_weight(weight * limits.channels, largest=self.largest_weight)
        whole = op.multiply(op.convert(op.constant(levels), "f32"), _constant(steps))
        return op.matmul(self._quantized[key], whole, False, True)

    def norm(self, x: ov.Node, name: str) -> ov.Node:
        """Layer norm over the last axis."""
        normal = op.mvn(x, _ints(-1), True, self.config.layer_norm_eps, "INSIDE_SQRT")
        scaled = op.multiply(normal, self.constant(f"{name}.weight"))
        return op.add(scaled, self.constant(f"{name}.bias"))

    def attention(self, x: ov.Node, queries: ov.Node, name: str, mask: "Mask") -> ov.Node:
        """Multi-head attention of ``queries`` to the tokens of ``x``."""
        heads, width = self.config.heads, self.config.width

        def by_head(tokens: ov.Node, part: str) -> ov.Node:
            flat = self.linear(tokens, f"{name}.{part}_proj")
            return op.transpose(
                op.reshape(flat, _ints(0, 0, heads, width // heads), True), _ints(0, 2, 1, 3)
            )

        # one product for all three measured no faster than three, and would copy the weights
        mixed = mask(by_head(queries, "q"), by_head(x, "k"), by_head(x, "v"))
        flat = op.reshape(op.transpose(mixed, _ints(0, 2, 1, 3)), _ints(0, 0, width), True)
        return self.linear(flat, f"{name}.out_proj")

    def layers(self, x: ov.Node, mask: "Mask", pick: "Pick", last_mask: "Mask") -> ov.Node:
        """All layers; the last one computes only the token that ``pick`` takes."""
        for i_layer in range(self.config.layers):
            name = f"encoder.layers.{i_layer}"
            is_last = i_layer == self.config.layers - 1
            normal = self.norm(x, f"{name}.layer_norm1")
            queries = pick(normal) if is_last else normal
            x = pick(x) if is_last else x
            attended = self.attention(
                normal, queries, f"{name}.self_attn", last_mask if is_last else mask
            )
            x = op.add(x, attended)
            hidden = self.linear(self.norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1")
            hidden = _ACTIVATIONS[self.config.activation](hidden)
            x = op.add(x, self.linear(hidden, f"{name}.mlp.fc2"))
        return x


Mask = Callable[[ov.Node, ov.Node, ov.Node], ov.Node]
"""Query, key and value ``(n, head, token, channel)`` to what the queries read."""
Pick = Callable[[ov.Node], ov.Node]
"""All tokens ``(n, token, width)`` to the one that is read ``(n, 1, width)``."""


def image_tower(
    config: CLIPConfig,
    weights: Weights,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    ranges: Ranges | None = None,
    largest_weight: int = LARGEST_WEIGHT,
) -> tuple[ov.Model, dict[str, ov.Node]]:
    """Lay the picture tower: uint8 pixels ``(n, h, w, 3)`` in, float32 ``(n, dim)`` out.

    Args:
        config: the checkpoint's sizes.
        weights: by their names in ``transformers``; float32 or float16.
        mean: taken off each channel of pixels in 0…1.
        std: divides each channel after that.
        ranges: what makes the linear layers int8; None leaves them floats.
        largest_weight: of the steps that int8 weights are written in.

    Returns:
        The graph, and what enters each linear layer by that layer's name.
    """
    vision = config.vision
    tower = Tower(weights, "vision_model", vision, ranges, largest_weight)
    side = vision.image_px // vision.patch_px
    pixels = op.parameter([-1, vision.image_px, vision.image_px, 3], np.uint8, name="pixels")
    x = _patches(pixels, side, vision.patch_px)
    kernel, offset = fold_normalisation(
        np.asarray(weights["vision_model.embeddings.patch_embedding.weight"], np.float32), mean, std
    )
    x = op.matmul(x, _constant(kernel), False, True)
    # the class token and the constant part of the patches ride along with the positions
    positions = np.array(weights["vision_model.embeddings.position_embedding.weight"], np.float32)
    positions[0] += np.asarray(weights["vision_model.embeddings.class_embedding"], np.float32)
    positions[1:] += offset
    no_class = op.pad(x, _ints(0, 1, 0), _ints(0, 0, 0), "constant", np.float32(0))
    x = op.add(no_class, _constant(positions))
    x = tower.norm(x, "pre_layrnorm")  # so misspelt in every checkpoint

    def class_token(tokens: ov.Node) -> ov.Node:
        return op.slice(tokens, _ints(0), _ints(1), _ints(1), _ints(1))

    x = tower.layers(x, _see_all, class_token, _see_all)
    x = tower.norm(op.squeeze(x, _ints(1)), "post_layernorm")
    vectors = op.matmul(x, _constant(weights["visual_projection.weight"]), False, True)
    return ov.Model([vectors], [pixels], "image_tower"), tower.inputs


def text_tower(config: CLIPConfig, weights: Weights) -> ov.Model:
    """Lay the text tower: int32 ``tokens (n, token)`` and ``ends (n,)`` in, ``(n, dim)`` out.

    ``ends`` holds the position of each text's end token; what follows it has no effect.

    Args:
        config: the checkpoint's sizes.
        weights: by their names in ``transformers``; float32 or float16.
    """
    tower = Tower(weights, "text_model", config.text)
    tokens = op.parameter([-1, -1], np.int32, name="tokens")
    ends = op.parameter([-1], np.int32, name="ends")
    length = op.gather(op.shape_of(tokens), _ints(1), op.constant(np.int64(0)))
    x = op.gather(
        tower.constant("embeddings.token_embedding.weight"), tokens, op.constant(np.int64(0))
    )
    positions = tower.constant("embeddings.position_embedding.weight")
    x = op.add(x, op.slice(positions, _ints(0), length, _ints(1), _ints(0)))
    ends_column = op.unsqueeze(ends, _ints(1))

    def end_token(states: ov.Node) -> ov.Node:
        return op.gather(states, ends_column, op.constant(np.int64(1)), 1)

    steps = op.range(
        op.constant(np.int32(0)),
        op.convert(op.squeeze(length, _ints(0)), "i32"),
        op.constant(np.int32(1)),
        "i32",
    )
    is_read = op.less_equal(op.unsqueeze(steps, _ints(0)), ends_column)
    is_read = op.unsqueeze(is_read, _ints(1, 2))

    def see_before(query: ov.Node, key: ov.Node, value: ov.Node) -> ov.Node:
        return op.scaled_dot_product_attention(query, key, value, causal=True)

    def see_to_the_end(query: ov.Node, key: ov.Node, value: ov.Node) -> ov.Node:
        return op.scaled_dot_product_attention(query, key, value, is_read)

    x = tower.layers(x, see_before, end_token, see_to_the_end)
    x = tower.norm(op.squeeze(x, _ints(1)), "final_layer_norm")
    vectors = op.matmul(x, _constant(weights["text_projection.weight"]), False, True)
    return ov.Model([vectors], [tokens, ends], "text_tower")


def extremes(model: ov.Model, inputs: Mapping[str, ov.Node]) -> ov.Model:
    """A graph that gives the least, then the largest value of each channel of each input."""
    axes = _ints(0, 1)
    lows = [op.reduce_min(node, axes, False) for node in inputs.values()]
    highs = [op.reduce_max(node, axes, False) for node in inputs.values()]
    return ov.Model(lows + highs, model.get_parameters(), "extremes")


def _patches(pixels: ov.Node, side: int, patch: int) -> ov.Node:
    grid = op.reshape(pixels, _ints(0, side, patch, side, patch * 3), True)
    rows = op.transpose(grid, _ints(0, 1, 3, 2, 4))  # still bytes: a quarter of the traffic
    flat = op.reshape(rows, _ints(0, side * side, patch * patch * 3), True)
    return op.subtract(op.convert(flat, "f32"), op.constant(np.float32(PIXEL_CENTER)))


def _see_all(query: ov.Node, key: ov.Node, value: ov.Node) -> ov.Node:
    return op.scaled_dot_product_attention(query, key, value)


def _quick_gelu(x: ov.Node) -> ov.Node:
    slope = op.constant(np.float32(QUICK_GELU_SLOPE))
    return op.multiply(x, op.sigmoid(op.multiply(x, slope)))


def _gelu(x: ov.Node) -> ov.Node:
    return op.gelu(x, "erf")


_ACTIVATIONS = {"quick_gelu": _quick_gelu, "gelu": _gelu}


def _constant(array: NDArray[np.floating]) -> ov.Node:
    node = op.constant(np.ascontiguousarray(array), shared_memory=True)
    return node if array.dtype == np.float32 else op.convert(node, "f32")


def _ints(*values: int) -> ov.Node:
    return op.constant(np.array(values, np.int64))
