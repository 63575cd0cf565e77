"""Both towers for other runtimes, as OpenVINO IR and as ONNX: a folder of two graphs each.

The ONNX graphs have the inputs and outputs of transformers' own exports (``pixel_values``,
``input_ids``, ``image_embeds``, ``text_embeds``). The OpenVINO graphs take uint8 pixels, because
scaling and normalisation are part of the graph. Vectors are not scaled to unit length.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8

from fashionclip.checkpoint import Checkpoint, CLIPConfig
from fashionclip.engines.io import to_unit
from fashionclip.errors import MissingExtraError, PublishError
from fashionclip.lines import reason_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fashionclip.engines.towers import Towers

IMAGE_TOWER, TEXT_TOWER = "image_tower.xml", "text_tower.xml"
VISION, TEXT = "vision_model.onnx", "text_model.onnx"
USAGE = "how-to-use.json"
"""Beside each pair of graphs: inputs, outputs, and how images are prepared."""
OPSET = 17

EncodePixels = Callable[[UInt8[np.ndarray, "n h w 3"]], Float[np.ndarray, "n dim"]]
EncodeTokens = Callable[[Int[np.ndarray, "n token"]], Float[np.ndarray, "n dim"]]


def write_openvino(checkpoint: Checkpoint, folder: Path) -> None:
    """Write both towers as OpenVINO IR, with float16 weights.

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
    # compute the ends from the tokens, so that the graph has one input
    is_end = tokens
    if checkpoint.config.end_of_text == "first":
        end = op.constant(np.int32(checkpoint.config.end_id))
        is_end = op.convert(op.equal(tokens, end), "i32")
    best = op.topk(is_end, op.constant(np.int32(1)), 1, "max", "value", "i32", stable=True)
    position = op.squeeze(best.output(1), op.constant(np.array([1], np.int64)))
    for reader in ends.output(0).get_target_inputs():
        reader.replace_source_output(position.output(0))
    texts.remove_parameter(ends)
    texts.validate_nodes_and_infer_types()
    usage = {
        "image_tower": "uint8 pixels (n, h, w, 3), scaled and normalised inside",
        "text_tower": "int32 tokens (n, token); tokens after the end token have no effect",
        "weights": "float16",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for model, name in ((images, IMAGE_TOWER), (texts, TEXT_TOWER)):
            model.outputs[0].get_tensor().set_names({"vectors"})
            ov.save_model(model, str(folder / name), compress_to_fp16=True)
        _write_usage(checkpoint, folder, usage)
    except (OSError, RuntimeError) as exc:  # the runtime has no error type for a full disk
        raise PublishError(_unwritable(folder, exc)) from exc


def write_onnx(checkpoint: Checkpoint, folder: Path) -> None:
    """Write both towers as ONNX, float32, through ``torch.onnx.export``.

    The exporter by tracing is used, because the one by ``torch.export`` needs onnxscript and takes
    ten times as long for the same graphs.

    Raises:
        PublishError: the folder cannot be written.
        MissingExtraError: PyTorch or onnx is not installed.
    """
    try:
        import onnx  # noqa: F401 - the exporter needs it
        import torch

        from fashionclip.engines.towers import Towers
    except ImportError as exc:
        message = "ONNX files are written by PyTorch and onnx: pip install 'fashionclip[train]'"
        raise MissingExtraError(message) from exc

    size_px = checkpoint.config.vision.image_px
    vision, text = _traceable(Towers.from_checkpoint(checkpoint), checkpoint.config)
    usage = {
        "vision_model": "float32 pixel_values (n, 3, h, w), normalised -> image_embeds",
        "text_model": "int64 input_ids (n, token) -> text_embeds",
        "opset": str(OPSET),
        "weights": "float32",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for module, example, name, entry, output in (
            (vision, torch.zeros(2, 3, size_px, size_px), VISION, "pixel_values", "image_embeds"),
            (text, torch.zeros(2, 3, dtype=torch.int64), TEXT, "input_ids", "text_embeds"),
        ):
            axes = {0: "n", 1: "token"} if name == TEXT else {0: "n"}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that this exporter is not PyTorch's default
                torch.onnx.export(
                    module,
                    (example,),
                    str(folder / name),
                    input_names=[entry],
                    output_names=[output],
                    dynamic_axes={entry: axes, output: {0: "n"}},
                    opset_version=OPSET,
                    dynamo=False,
                )
        _write_usage(checkpoint, folder, usage)
    except (OSError, RuntimeError) as exc:
        raise PublishError(_unwritable(folder, exc)) from exc


def _traceable(towers: "Towers", config: CLIPConfig) -> "tuple[nn.Module, nn.Module]":
    """The towers with the inputs that transformers' exports have."""
    import torch
    from torch import nn

    class Vision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.towers = towers

        def forward(self, pixel_values: "Tensor") -> "Tensor":
            vectors: Tensor = self.towers.encode_image(pixel_values.permute(0, 2, 3, 1))
            return vectors

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.projection = towers.text_model, towers.text_projection

        def forward(self, input_ids: "Tensor") -> "Tensor":
            is_end = input_ids
            if config.end_of_text == "first":
                is_end = (input_ids == config.end_id).to(torch.int32)
            vectors: Tensor = self.projection(self.model.encode(input_ids, is_end.argmax(dim=1)))
            return vectors

    return Vision().eval(), Text().eval()


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
    images = onnxruntime.InferenceSession(str(folder / VISION))
    texts = onnxruntime.InferenceSession(str(folder / TEXT))
    return (
        lambda pixels: to_unit(
            images.run(None, {"pixel_values": normalised(checkpoint, pixels)})[0]
        ),
        lambda tokens: to_unit(texts.run(None, {"input_ids": tokens.astype(np.int64)})[0]),
    )


def normalised(
    checkpoint: Checkpoint, pixels: UInt8[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n 3 h w"]:
    """Pixels as transformers' processors return them: float32, normalised, channels first."""
    pre = checkpoint.preprocess
    mean, std = np.array(pre.mean, np.float32), np.array(pre.std, np.float32)
    scaled = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


EXPORTS: Mapping[str, Callable[[Checkpoint, Path], None]] = MappingProxyType(
    {"openvino": write_openvino, "onnx": write_onnx}
)
"""The formats that a model is published in besides transformers', by their folder's name."""


def _write_usage(checkpoint: Checkpoint, folder: Path, usage: Mapping[str, str]) -> None:
    pre = checkpoint.preprocess
    content = {
        **usage,
        "vectors": f"{checkpoint.config.projection_dim} numbers, not of unit length",
        "pictures": {
            "size_px": pre.size_px,
            "fit": pre.fit,
            "resample": pre.resample,
            "mean": list(pre.mean),
            "std": list(pre.std),
        },
        "tokenizer": "tokenizer.json beside the model",
        "logit_scale": float(np.exp(checkpoint.config.logit_scale)),
    }
    (folder / USAGE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _unwritable(folder: Path, exc: Exception) -> str:
    reason = exc.strerror if isinstance(exc, OSError) else reason_of(exc, width=150)
    return f"the export cannot be written to {folder} ({reason}); free some disk space"
