"""The towers for other runtimes: OpenVINO's IR and ONNX, each a folder of two graphs.

Both take what a transformers processor makes (``pixel_values``, ``input_ids``) or, for OpenVINO,
the square of pixels itself, scaling and normalising being part of the graph. Vectors leave with
the length that the projection gives them; bring them to unit length before a dot product.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int, UInt8

from fashionclip.checkpoint import Checkpoint
from fashionclip.engines.io import to_unit
from fashionclip.errors import PublishError

IMAGE_TOWER, TEXT_TOWER = "image_tower.xml", "text_tower.xml"
USE = "how-to-use.json"
"""Beside each pair of graphs: what goes in, what comes out, how pictures are prepared."""

EncodePixels = Callable[[UInt8[np.ndarray, "n h w 3"]], Float[np.ndarray, "n dim"]]
EncodeTokens = Callable[[Int[np.ndarray, "n token"]], Float[np.ndarray, "n dim"]]


def write_openvino(checkpoint: Checkpoint, folder: Path) -> None:
    """Write both towers as OpenVINO's IR, weights as float16.

    ``image_tower``: uint8 ``pixels (n, h, w, 3)``. ``text_tower``: int32 ``tokens (n, token)``.

    Raises:
        PublishError: the folder cannot be written.
    """
    from fashionclip.engines import graph  # loads the runtime
    from fashionclip.engines.graph import op, ov

    pre, weights = checkpoint.preprocess, checkpoint.weights()
    images, _ = graph.image_tower(checkpoint.config, weights, mean=pre.mean, std=pre.std)
    texts = graph.text_tower(checkpoint.config, weights)
    tokens, ends = texts.get_parameters()
    # where a text ends can be told from its tokens, so nobody need be asked for it
    is_end = tokens
    if checkpoint.config.end_of_text == "first":
        end = op.constant(np.int32(checkpoint.config.end_id))
        is_end = op.convert(op.equal(tokens, end), "i32")
    best = op.topk(is_end, op.constant(np.int32(1)), 1, "max", "value", "i32", stable=True)
    place = op.squeeze(best.output(1), op.constant(np.array([1], np.int64)))
    for reader in ends.output(0).get_target_inputs():
        reader.replace_source_output(place.output(0))
    texts.remove_parameter(ends)
    texts.validate_nodes_and_infer_types()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for model, name in ((images, IMAGE_TOWER), (texts, TEXT_TOWER)):
            model.outputs[0].get_tensor().set_names({"vectors"})
            ov.save_model(model, str(folder / name), compress_to_fp16=True)
        facts = {
            "image_tower": "uint8 pixels (n, h, w, 3), scaled and normalised inside",
            "text_tower": "int32 tokens (n, token); what follows the end token has no effect",
            "weights": "float16",
        }
        _write_use(checkpoint, folder, facts)
    except (OSError, RuntimeError) as exc:  # the runtime has no error of its own for a full disk
        message = _unwritable(folder, exc)
        raise PublishError(message) from exc


def write_onnx(checkpoint: Checkpoint, folder: Path) -> None:
    """Write both towers as ONNX, float32, with transformers' names of inputs and outputs.

    Raises:
        PublishError: the folder cannot be written.
        MissingExtraError: onnx is not installed.
    """
    from fashionclip.publish import onnx

    config, weights = checkpoint.config, checkpoint.weights()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save_graph(onnx.vision_graph(config, weights), folder / onnx.VISION)
        onnx.save_graph(onnx.text_graph(config, weights), folder / onnx.TEXT)
        facts = {
            "vision_model": "float32 pixel_values (n, 3, h, w), normalised -> image_embeds",
            "text_model": "int64 input_ids (n, token) -> text_embeds",
            "opset": str(onnx.OPSET),
            "weights": "float32",
        }
        _write_use(checkpoint, folder, facts)
    except OSError as exc:
        message = _unwritable(folder, exc)
        raise PublishError(message) from exc


def open_openvino(folder: Path) -> tuple[EncodePixels, EncodeTokens]:
    """The written graphs as functions to unit vectors, computed in float32."""
    from fashionclip.engines.graph import ov

    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    images = core.compile_model(str(folder / IMAGE_TOWER), "CPU", settings)
    texts = core.compile_model(str(folder / TEXT_TOWER), "CPU", settings)
    return (
        lambda pixels: to_unit(images(pixels)[0]),
        lambda tokens: to_unit(texts(tokens.astype(np.int32))[0]),
    )


def open_onnx(checkpoint: Checkpoint, folder: Path) -> tuple[EncodePixels, EncodeTokens] | None:
    """The written graphs as functions to unit vectors; None without onnxruntime."""
    try:
        import onnxruntime
    except ImportError:
        return None
    from fashionclip.publish import onnx

    images = onnxruntime.InferenceSession(str(folder / onnx.VISION))
    texts = onnxruntime.InferenceSession(str(folder / onnx.TEXT))

    def encode_pixels(pixels: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n dim"]:
        return to_unit(images.run(None, {"pixel_values": normalised(checkpoint, pixels)})[0])

    def encode_tokens(tokens: Int[np.ndarray, "n token"]) -> Float[np.ndarray, "n dim"]:
        return to_unit(texts.run(None, {"input_ids": tokens.astype(np.int64)})[0])

    return encode_pixels, encode_tokens


def normalised(
    checkpoint: Checkpoint, pixels: UInt8[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n 3 h w"]:
    """Pixels as transformers' processors hand them on: float32, normalised, channels first."""
    pre = checkpoint.preprocess
    mean, std = np.array(pre.mean, np.float32), np.array(pre.std, np.float32)
    scaled = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


EXPORTS: Mapping[str, Callable[[Checkpoint, Path], None]] = MappingProxyType(
    {"openvino": write_openvino, "onnx": write_onnx}
)
"""What a model is published as besides transformers' format, by the folder's name."""


def _write_use(checkpoint: Checkpoint, folder: Path, facts: Mapping[str, str]) -> None:
    pre = checkpoint.preprocess
    pictures = {
        "size_px": pre.size_px,
        "fit": pre.fit,
        "resample": pre.resample,
        "mean": list(pre.mean),
        "std": list(pre.std),
    }
    vectors = f"{checkpoint.config.projection_dim} numbers, not of unit length yet"
    use = {
        **facts,
        "vectors": vectors,
        "pictures": pictures,
        "tokenizer": "tokenizer.json beside the model",
        "logit_scale": float(np.exp(checkpoint.config.logit_scale)),
    }
    (folder / USE).write_text(json.dumps(use, indent=2) + "\n", encoding="utf-8")


def _unwritable(folder: Path, exc: Exception) -> str:
    why = exc.strerror if isinstance(exc, OSError) else " ".join(str(exc).split())[:150]
    return f"the export cannot be written to {folder} ({why}); make room"
