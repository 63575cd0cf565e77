"""The engine for GPUs: both towers in PyTorch, from the same weights; precisions, batch sizes.

It also runs on the CPU (``torch-cpu``), for comparison. Importing this module imports PyTorch,
which takes seconds.
"""

from typing import cast

import numpy as np
from jaxtyping import Float32, Int, UInt8

from fashionclip.checkpoint import Checkpoint, PatchAttention
from fashionclip.engines.io import (
    PIXEL_CENTER,
    check_pixels,
    check_tokens,
    end_positions,
    folded_embeddings,
    neighbourhood,
    to_unit,
)
from fashionclip.errors import EngineError, MissingExtraError

try:
    import torch
    from torch import Tensor
    from torch.nn import functional

    from fashionclip.engines.towers import Layer, Towers, cut_patches
except ImportError as exc:
    _MESSAGE = (
        "PyTorch is not installed; run `pip install 'fashionclip[torch]'`, or use device='cpu'"
    )
    raise MissingExtraError(_MESSAGE) from exc

IMAGES_PER_CALL = 256
"""Bounds the GPU's memory for any batch size."""
TEXTS_PER_CALL = 1024


class PyTorchEngine:
    """Both towers of a CLIP on a PyTorch device."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str,
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        """Choose the precision; weights move to the device when a tower is first used.

        Raises:
            EngineError: PyTorch finds no such device, or the device lacks the precision.
        """
        available = devices_here()
        self.device = "cuda:0" if device == "cuda" else device
        if self.device not in available:
            message = f"PyTorch finds no device {device} here; choose from {', '.join(available)}"
            raise EngineError(message)
        if threads is not None and self.device == "torch-cpu":
            torch.set_num_threads(threads)
        self._device = torch.device("cpu" if self.device == "torch-cpu" else self.device)
        self.precision = _precision(precision, self._device)
        self.dim = checkpoint.config.projection_dim
        self._config = checkpoint.config
        self._checkpoint = checkpoint
        self._type: torch.dtype = getattr(torch, self.precision)
        with torch.device("meta"):  # no memory until a tower is used
            self._towers = Towers(checkpoint.config).requires_grad_(requires_grad=False)
        self._loaded: set[str] = set()

    @torch.inference_mode()
    def encode_pixels(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n dim"]:
        """Encode images of the checkpoint's size to unit vectors.

        Raises:
            ValueError: the pixels have another shape or type.
        """
        pixels = check_pixels(pixels, self._config.vision.image_px)
        self._load_vision()
        vectors = np.empty((len(pixels), self.dim), dtype=np.float32)
        for start in range(0, len(pixels), IMAGES_PER_CALL):
            rows = slice(start, start + IMAGES_PER_CALL)
            batch = torch.tensor(pixels[rows], device=self._device)
            vectors[rows] = self._encode_image(batch).float().cpu().numpy()
        return to_unit(vectors)

    @torch.inference_mode()
    def encode_patches(
        self, pixels: UInt8[np.ndarray, "n h w 3"], attention: PatchAttention
    ) -> Float32[np.ndarray, "n token dim"]:
        """Encode images and each of their patches.

        Raises:
            ValueError: the pixels have another shape or type.
        """
        vision = self._config.vision
        pixels = check_pixels(pixels, vision.image_px)
        self._load_vision()
        n_tokens = (vision.image_px // vision.patch_px) ** 2 + 1
        vectors = np.empty((len(pixels), n_tokens, self.dim), dtype=np.float32)
        for start in range(0, len(pixels), IMAGES_PER_CALL):
            rows = slice(start, start + IMAGES_PER_CALL)
            embedded = self._embed(torch.tensor(pixels[rows], device=self._device))
            found = self._encode_patches(embedded, attention)
            vectors[rows] = to_unit(found.float().cpu().numpy())
        return vectors

    @torch.inference_mode()
    def encode_tokens(self, tokens: Int[np.ndarray, "n token"]) -> Float32[np.ndarray, "n dim"]:
        """Encode tokenised texts to unit vectors; tokens after a text's end have no effect.

        Raises:
            ValueError: the tokens have another shape or type, or are outside the vocabulary.
        """
        tokens = check_tokens(tokens, self._config)
        ends = end_positions(tokens, self._config)
        if "text" not in self._loaded:
            self._load("text_model.", "text_projection.")
            self._loaded.add("text")
        vectors = np.empty((len(tokens), self.dim), dtype=np.float32)
        for start in range(0, len(tokens), TEXTS_PER_CALL):
            rows = slice(start, start + TEXTS_PER_CALL)
            length = int(ends[rows].max()) + 1
            batch = torch.tensor(tokens[rows, :length], device=self._device)
            batch_ends = torch.tensor(ends[rows], device=self._device, dtype=torch.int64)
            vectors[rows] = self._towers.encode_text(batch, batch_ends).float().cpu().numpy()
        return to_unit(vectors)

    def _load(self, *prefixes: str) -> None:
        weights = self._checkpoint.weights()
        for name in weights:
            if name.startswith(prefixes):
                home, _, last = name.rpartition(".")  # the towers were created without memory
                weight = torch.nn.Parameter(self._tensor(weights[name]), requires_grad=False)
                setattr(self._towers.get_submodule(home), last, weight)

    def _load_vision(self) -> None:
        if "vision" in self._loaded:
            return
        self._load("vision_model.", "visual_projection.")
        pre, stored = self._checkpoint.preprocess, self._checkpoint.weights()
        kernel, positions = folded_embeddings(stored, pre.mean, pre.std)
        self._patches, self._positions = self._tensor(kernel), self._tensor(positions)
        self._loaded.add("vision")

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, device=self._device).to(self._type)

    def _encode_image(self, pixels: Tensor) -> Tensor:
        states = self._towers.vision_model.encode(self._embed(pixels))
        vectors: Tensor = self._towers.visual_projection(states)
        return vectors

    def _encode_patches(self, embedded: Tensor, attention: PatchAttention) -> Tensor:
        """Vectors ``(n, 1 + patch, dim)``; ``engines.patch_graph`` has the same for OpenVINO."""
        vision = self._towers.vision_model
        x = vision.pre_layrnorm(embedded)
        for layer in vision.encoder.layers[:-1]:
            x = layer(x)
        last = cast(Layer, vision.encoder.layers[-1])
        whole = last(x, pick=lambda tokens: tokens[:, :1])
        mixed = last.self_attn.out_proj(self._mixed(last, last.layer_norm1(x), attention))
        mixed = x + mixed if attention.residual else mixed
        if attention.mlp:
            hidden = last.feed_forward(mixed)
            mixed = mixed + hidden if attention.residual else hidden
        states = vision.post_layernorm(torch.cat([whole, mixed[:, 1:]], dim=1))
        vectors: Tensor = self._towers.visual_projection(states)
        return vectors

    def _mixed(self, layer: Layer, normal: Tensor, attention: PatchAttention) -> Tensor:
        parts = layer.self_attn
        query, key, value = (
            layer.by_head(linear(normal)) for linear in (parts.q_proj, parts.k_proj, parts.v_proj)
        )
        attend = functional.scaled_dot_product_attention
        if attention.kind == "plain":
            mixed = attend(query, key, value)
        elif attention.kind == "values":
            mixed = value
        elif attention.kind == "sclip":
            mixed = attend(query, query, value) + attend(key, key, value)
        else:
            vision = self._config.vision
            bias = self._tensor(neighbourhood(vision.image_px // vision.patch_px))
            mixed = attend(key, key, value, attn_mask=bias)
        return mixed.transpose(1, 2).flatten(2)

    def _embed(self, pixels: Tensor) -> Tensor:
        flat = cut_patches(pixels, self._config.vision).to(self._type)
        x = functional.linear(flat - PIXEL_CENTER, self._patches)
        embedded: Tensor = functional.pad(x, (0, 0, 1, 0)) + self._positions
        return embedded


def gpu_here() -> str | None:
    """The first GPU that PyTorch finds, if any."""
    return next((device for device in devices_here() if device != "torch-cpu"), None)


def devices_here() -> tuple[str, ...]:
    """Every device that PyTorch finds, the best first."""
    found = [f"cuda:{i_gpu}" for i_gpu in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "torch-cpu")


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "int8":
        message = "int8 runs on device='cpu' only; on a GPU leave precision at auto"
        raise EngineError(message)
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "float16" if device.type == "mps" else "float32"
