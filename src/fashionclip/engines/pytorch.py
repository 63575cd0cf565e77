"""The engine for GPUs: both towers in plain PyTorch, from the same weights.

Functions over a mapping of tensors; no modules, no transformers. Also runs on the CPU
(``torch-cpu``), for comparison. Importing this room imports PyTorch, which takes seconds.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int, UInt8

from fashionclip.checkpoint import Checkpoint, TowerConfig
from fashionclip.engines.edges import (
    PIXEL_CENTER,
    QUICK_GELU_SLOPE,
    check_pixels,
    check_tokens,
    end_positions,
    fold_normalisation,
    to_unit,
)
from fashionclip.errors import EngineError, MissingExtraError

try:
    import torch
    from torch import Tensor
    from torch.nn import functional
except ImportError as exc:
    _MESSAGE = (
        "PyTorch is not installed; run `pip install 'fashionclip[torch]'`, or use device='cpu'"
    )
    raise MissingExtraError(_MESSAGE) from exc

IMAGES_AT_ONCE = 256
"""Pictures in one pass; bounds the GPU's memory, whatever the caller sends."""
TEXTS_AT_ONCE = 1024

_TORCH_TYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

Pick = Callable[[Tensor], Tensor]
"""All tokens ``(n, token, width)`` to the one that is read ``(n, 1, width)``."""


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
            EngineError: PyTorch sees no such device, or it has no such precision.
        """
        available = devices_here()
        self.device = "cuda:0" if device == "cuda" else device
        if self.device not in available:
            message = f"PyTorch sees no device {device} here; choose from {', '.join(available)}"
            raise EngineError(message)
        if threads is not None and self.device == "torch-cpu":
            torch.set_num_threads(threads)
        self._device = torch.device("cpu" if self.device == "torch-cpu" else self.device)
        self.precision = _precision(precision, self._device)
        self.dim = checkpoint.config.projection_dim
        self._config = checkpoint.config
        self._checkpoint = checkpoint
        self._type = _TORCH_TYPES[self.precision]
        self._vision: dict[str, Tensor] = {}
        self._text: dict[str, Tensor] = {}

    @torch.inference_mode()
    def encode_pixels(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n dim"]:
        """Encode pictures of the checkpoint's size to unit vectors.

        Raises:
            ValueError: the pixels have another shape or type.
        """
        pixels = check_pixels(pixels, self._config.vision.image_px)
        self._vision = self._vision or self._load_vision()
        vectors = np.empty((len(pixels), self.dim), dtype=np.float32)
        for start in range(0, len(pixels), IMAGES_AT_ONCE):
            rows = slice(start, start + IMAGES_AT_ONCE)
            batch = torch.tensor(pixels[rows], device=self._device)
            vectors[rows] = self._image_tower(batch).float().cpu().numpy()
        return to_unit(vectors)

    @torch.inference_mode()
    def encode_tokens(self, tokens: Int[np.ndarray, "n token"]) -> Float32[np.ndarray, "n dim"]:
        """Encode tokenised texts to unit vectors; what follows a text's end has no effect.

        Raises:
            ValueError: the tokens have another shape or type, or are out of the vocabulary.
        """
        tokens = check_tokens(tokens, self._config)
        ends = end_positions(tokens, self._config)
        self._text = self._text or self._load("text_model.", "text_projection.")
        vectors = np.empty((len(tokens), self.dim), dtype=np.float32)
        for start in range(0, len(tokens), TEXTS_AT_ONCE):
            rows = slice(start, start + TEXTS_AT_ONCE)
            longest = int(ends[rows].max()) + 1
            batch = torch.tensor(tokens[rows, :longest], device=self._device)
            batch_ends = torch.tensor(ends[rows], device=self._device, dtype=torch.int64)
            vectors[rows] = self._text_tower(batch, batch_ends).float().cpu().numpy()
        return to_unit(vectors)

    def _load(self, *prefixes: str) -> dict[str, Tensor]:
        weights = self._checkpoint.weights()
        return {name: self._tensor(weights[name]) for name in weights if name.startswith(prefixes)}

    def _load_vision(self) -> dict[str, Tensor]:
        weights = self._load("vision_model.", "visual_projection.")
        pre, stored = self._checkpoint.preprocess, self._checkpoint.weights()
        embeddings = "vision_model.embeddings"
        kernel, offset = fold_normalisation(
            np.asarray(stored[f"{embeddings}.patch_embedding.weight"], np.float32),
            pre.mean,
            pre.std,
        )
        positions = np.array(stored[f"{embeddings}.position_embedding.weight"], np.float32)
        positions[0] += np.asarray(stored[f"{embeddings}.class_embedding"], np.float32)
        positions[1:] += offset
        weights["patches"] = self._tensor(kernel)
        weights["positions"] = self._tensor(positions)
        return weights

    def _tensor(self, array: np.ndarray) -> Tensor:
        if array.dtype.kind != "f":  # stored position ids, which nothing here needs
            return torch.tensor(array)
        return torch.tensor(array, device=self._device).to(self._type)

    def _image_tower(self, pixels: Tensor) -> Tensor:
        config = self._config.vision
        patch = config.patch_px
        side = config.image_px // patch
        grid = pixels.reshape(-1, side, patch, side, patch, 3).transpose(2, 3)
        flat = grid.reshape(-1, side * side, patch * patch * 3)
        x = functional.linear(flat.to(self._type) - PIXEL_CENTER, self._vision["patches"])
        x = functional.pad(x, (0, 0, 1, 0)) + self._vision["positions"]
        tower = _Tower(self._vision, "vision_model", config)
        x = tower.norm(x, "pre_layrnorm")  # so misspelt in every checkpoint
        x = tower.layers(x, pick=lambda tokens: tokens[:, :1], is_causal=False, last_mask=None)
        x = tower.norm(x[:, 0], "post_layernorm")
        return functional.linear(x, self._vision["visual_projection.weight"])

    def _text_tower(self, tokens: Tensor, ends: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self._text["text_model.embeddings.token_embedding.weight"][tokens]
        x = x + self._text["text_model.embeddings.position_embedding.weight"][:length]
        rows = torch.arange(len(tokens), device=self._device)
        steps = torch.arange(length, device=self._device)
        is_read = (steps <= ends[:, None])[:, None, None, :]
        tower = _Tower(self._text, "text_model", self._config.text)
        x = tower.layers(
            x, pick=lambda states: states[rows, ends][:, None], is_causal=True, last_mask=is_read
        )
        x = tower.norm(x[:, 0], "final_layer_norm")
        return functional.linear(x, self._text["text_projection.weight"])


class _Tower:
    """The layers of one tower over its weights."""

    def __init__(self, weights: dict[str, Tensor], prefix: str, config: TowerConfig) -> None:
        self.weights, self.prefix, self.config = weights, prefix, config

    def linear(self, x: Tensor, name: str) -> Tensor:
        name = f"{self.prefix}.{name}"
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, x: Tensor, name: str) -> Tensor:
        name = f"{self.prefix}.{name}"
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias, self.config.layer_norm_eps)

    def layers(self, x: Tensor, *, pick: Pick, is_causal: bool, last_mask: Tensor | None) -> Tensor:
        """All layers; the last one computes only the token that ``pick`` takes."""
        for i_layer in range(self.config.layers):
            name = f"encoder.layers.{i_layer}"
            is_last = i_layer == self.config.layers - 1
            normal = self.norm(x, f"{name}.layer_norm1")
            query, key, value = (
                self._by_head(self.linear(tokens, f"{name}.self_attn.{part}_proj"))
                for tokens, part in (
                    (pick(normal) if is_last else normal, "q"),
                    (normal, "k"),
                    (normal, "v"),
                )
            )
            mixed = functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=last_mask if is_last else None,
                is_causal=is_causal and not is_last,
            )
            flat = mixed.transpose(1, 2).flatten(2)
            x = (pick(x) if is_last else x) + self.linear(flat, f"{name}.self_attn.out_proj")
            hidden = self.linear(self.norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1")
            if self.config.activation == "quick_gelu":
                hidden = hidden * torch.sigmoid(QUICK_GELU_SLOPE * hidden)
            else:
                hidden = functional.gelu(hidden)
            x = x + self.linear(hidden, f"{name}.mlp.fc2")
        return x

    def _by_head(self, flat: Tensor) -> Tensor:
        return flat.reshape(*flat.shape[:2], self.config.heads, -1).transpose(1, 2)


def gpu_here() -> str | None:
    """The GPU that PyTorch sees, if any."""
    return next((device for device in devices_here() if device != "torch-cpu"), None)


def devices_here() -> tuple[str, ...]:
    """Every device that PyTorch sees, the best first."""
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
