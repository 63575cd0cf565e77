"""Both towers as ONNX graphs, laid straight from the weights: no tracing, no PyTorch.

Inputs and outputs are named and scaled as transformers does (``pixel_values``, ``input_ids``,
``image_embeds``, ``text_embeds``), so that what runs its exports runs these.

Source: Radford et al. 2021 (CLIP); the operators of ONNX's opset 17.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashionclip.checkpoint import CLIPConfig, TowerConfig
from fashionclip.checkpoint.weights import Weights
from fashionclip.engines.io import QUICK_GELU_SLOPE
from fashionclip.errors import MissingExtraError

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as exc:
    _MESSAGE = "ONNX files are written by onnx: pip install 'fashionclip[train]'"
    raise MissingExtraError(_MESSAGE) from exc

OPSET, IR_VERSION = 17, 8
VISION, TEXT = "vision_model.onnx", "text_model.onnx"
_LARGEST = 1_500_000_000
"""Bytes of weights in one file; protobuf ends at 2 GB, and more go into a file beside it."""
_MASKED = -1e9


class _Graph:
    """A graph that grows node by node; names of values are handed on."""

    def __init__(self, weights: Weights, prefix: str, config: TowerConfig) -> None:
        self.weights, self.prefix, self.config = weights, prefix, config
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 - as onnx has it
        """Lay one operation, and name what it gives."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Keep an array under a name, once."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        """A small list of whole numbers."""
        name = "ints_" + "_".join(str(value) for value in values)
        return self.constant(name, np.array(values, np.int64))

    def number(self, value: float) -> str:
        """One float."""
        return self.constant(f"float_{value!r}", np.array(value, np.float32).reshape(1))

    def weight(self, name: str) -> str:
        """A weight by its name below the prefix."""
        return self.constant(name, self._read(f"{self.prefix}.{name}"))

    def product(self, x: str, name: str) -> str:
        """``x @ weight.T`` by a weight's full name."""
        return self.add("MatMul", x, self.constant(f"{name}.transposed", self._read(name).T))

    def linear(self, x: str, name: str) -> str:
        """``x @ weight.T + bias``."""
        product = self.product(x, f"{self.prefix}.{name}.weight")
        return self.add("Add", product, self.weight(f"{name}.bias"))

    def norm(self, x: str, name: str) -> str:
        """Layer norm over the last axis."""
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        epsilon = self.config.layer_norm_eps
        return self.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)

    def layers(self, x: str, mask: str | None) -> str:
        """All layers over all tokens."""
        for i_layer in range(self.config.layers):
            name = f"encoder.layers.{i_layer}"
            normal = self.norm(x, f"{name}.layer_norm1")
            x = self.add("Add", x, self._attention(normal, f"{name}.self_attn", mask))
            hidden = self.linear(self.norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1")
            x = self.add("Add", x, self.linear(self._activation(hidden), f"{name}.mlp.fc2"))
        return x

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """Close the graph; its last node's value gets the output's name."""
        self.nodes[-1].output[0] = outputs[0].name
        graph = helper.make_graph(
            self.nodes, self.prefix, list(inputs), list(outputs), list(self.constants.values())
        )
        found = helper.make_model(
            graph,
            producer_name="fashionclip",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        return found

    def _read(self, name: str) -> NDArray[np.float32]:
        return np.asarray(self.weights[name], np.float32)

    def _attention(self, x: str, name: str, mask: str | None) -> str:
        heads, width = self.config.heads, self.config.width
        each = width // heads

        def by_head(part: str, order: tuple[int, ...]) -> str:
            flat = self.linear(x, f"{name}.{part}_proj")
            split = self.add("Reshape", flat, self.ints(0, 0, heads, each))
            return self.add("Transpose", split, perm=list(order))

        query = self.add("Mul", by_head("q", (0, 2, 1, 3)), self.number(each**-0.5))
        scores = self.add("MatMul", query, by_head("k", (0, 2, 3, 1)))
        if mask is not None:
            scores = self.add("Add", scores, mask)
        shares = self.add("Softmax", scores, axis=-1)
        mixed = self.add("MatMul", shares, by_head("v", (0, 2, 1, 3)))
        tokens_first = self.add("Transpose", mixed, perm=[0, 2, 1, 3])
        flat = self.add("Reshape", tokens_first, self.ints(0, 0, width))
        return self.linear(flat, f"{name}.out_proj")

    def _activation(self, x: str) -> str:
        if self.config.activation == "quick_gelu":
            share = self.add("Sigmoid", self.add("Mul", x, self.number(QUICK_GELU_SLOPE)))
            return self.add("Mul", x, share)
        error = self.add("Erf", self.add("Mul", x, self.number(float(np.sqrt(0.5)))))
        half = self.add("Mul", x, self.number(0.5))
        return self.add("Mul", half, self.add("Add", error, self.number(1.0)))


def vision_graph(config: CLIPConfig, weights: Weights) -> onnx.ModelProto:
    """The picture tower: ``pixel_values (n, 3, h, w)``, normalised, to ``image_embeds (n, dim)``.

    The vectors have the length that the projection gives them, as in transformers.
    """
    vision = config.vision
    graph = _Graph(weights, "vision_model", vision)
    kernel = graph.weight("embeddings.patch_embedding.weight")
    patch = [vision.patch_px, vision.patch_px]
    planes = graph.add("Conv", "pixel_values", kernel, kernel_shape=patch, strides=patch)
    flat = graph.add("Reshape", planes, graph.ints(0, vision.width, -1))
    patches = graph.add("Transpose", flat, perm=[0, 2, 1])
    first = np.asarray(weights["vision_model.embeddings.class_embedding"], np.float32)
    token = graph.constant("class_token", first.reshape(1, 1, -1))
    shape = graph.add("Shape", "pixel_values")
    count = graph.add("Slice", shape, graph.ints(0), graph.ints(1))
    each = graph.add("Concat", count, graph.ints(1, vision.width), axis=0)
    x = graph.add("Concat", graph.add("Expand", token, each), patches, axis=1)
    x = graph.add("Add", x, graph.weight("embeddings.position_embedding.weight"))
    x = graph.layers(graph.norm(x, "pre_layrnorm"), None)  # so misspelt in every checkpoint
    read = graph.add("Gather", x, graph.constant("first", np.array(0, np.int64)), axis=1)
    graph.product(graph.norm(read, "post_layernorm"), "visual_projection.weight")
    side = vision.image_px
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, side, side])
    return graph.model([pixels], [_embeds("image_embeds", config)])


def text_graph(config: CLIPConfig, weights: Weights) -> onnx.ModelProto:
    """The text tower: ``input_ids (n, token)`` to ``text_embeds (n, dim)``.

    What follows a text's end token has no effect, so that no mask is asked for.
    """
    text = config.text
    graph = _Graph(weights, "text_model", text)
    words = graph.weight("embeddings.token_embedding.weight")
    length = graph.add("Slice", graph.add("Shape", "input_ids"), graph.ints(1), graph.ints(2))
    positions = graph.weight("embeddings.position_embedding.weight")
    x = graph.add(
        "Add",
        graph.add("Gather", words, "input_ids", axis=0),
        graph.add("Slice", positions, graph.ints(0), length, graph.ints(0)),
    )
    ahead = np.triu(np.full((text.context_length, text.context_length), _MASKED, np.float32), 1)
    square = graph.add("Concat", length, length, axis=0)
    mask = graph.add(
        "Slice", graph.constant("ahead", ahead), graph.ints(0, 0), square, graph.ints(0, 1)
    )
    x = graph.layers(x, mask)
    ends = "input_ids"
    if config.end_of_text == "first":
        end = graph.constant("end", np.array(config.end_id, np.int64))
        ends = graph.add("Cast", graph.add("Equal", "input_ids", end), to=TensorProto.INT32)
    place = graph.add("ArgMax", ends, axis=1, keepdims=1)
    one_hot = graph.add("Unsqueeze", place, graph.ints(2))
    width = graph.constant("width", np.array([1, 1, text.width], np.int64))
    rows = graph.add("Expand", one_hot, width)
    read = graph.add("Squeeze", graph.add("GatherElements", x, rows, axis=1), graph.ints(1))
    graph.product(graph.norm(read, "final_layer_norm"), "text_projection.weight")
    tokens = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "token"])
    return graph.model([tokens], [_embeds("text_embeds", config)])


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Check a graph and write it; large weights go into ``<name>.data`` beside it.

    Raises:
        OSError: it cannot be written.
    """
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size > _LARGEST:
        onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
        return
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))


def _embeds(name: str, config: CLIPConfig) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", config.projection_dim])
