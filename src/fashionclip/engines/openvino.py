"""The engine for CPUs: both towers on OpenVINO, precisions, size of a call.

A tower is built and compiled at its first use (0.1 to 0.5 s for ViT-B/32), so a text search
never loads the image tower. The inference precision is always set, because OpenVINO's default
is bfloat16 on every CPU that supports it.
"""

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float32, Int, UInt8

from fashionclip.checkpoint import Checkpoint, PatchAttention
from fashionclip.engines import graph, has_bfloat16, has_vnni
from fashionclip.engines.graph import ov
from fashionclip.engines.io import check_pixels, check_tokens, end_positions, to_unit
from fashionclip.engines.patch_graph import patch_tower
from fashionclip.errors import EngineError

IMAGES_PER_CALL = 32
"""More images per call are no faster and cost memory."""
TEXTS_PER_CALL = 256
TEXT_STEP, TOKEN_STEP = 8, 2
"""Batches are padded to multiples of these numbers of texts and tokens, because OpenVINO compiles
and caches kernels for every new shape, which takes milliseconds."""

_OPENVINO_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVINOEngine:
    """Both towers of a CLIP on the CPU."""

    device = "cpu"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        precision: str = "auto",
        threads: int | None = None,
        calibration: UInt8[np.ndarray, "n h w 3"] | None = None,
    ) -> None:
        """Choose the precision; nothing is compiled yet.

        Raises:
            EngineError: the CPU lacks the precision, or ``int8`` comes without ``calibration``.
        """
        if precision == "int8" and (calibration is None or len(calibration) == 0):
            message = (
                "int8 needs calibration images; pass some dozens of typical ones as calibration="
            )
            raise EngineError(message)
        self.dim = checkpoint.config.projection_dim
        self._config = checkpoint.config
        self._checkpoint = checkpoint
        self._calibration = (
            check_pixels(calibration, checkpoint.config.vision.image_px)
            if precision == "int8" and calibration is not None
            else None
        )
        self._core = ov.Core()
        available = precisions_here()
        float_precision = _best(available) if precision in {"auto", "int8"} else precision
        if float_precision not in available:
            message = (
                f"this CPU does not support {precision}; choose from "
                f"{', '.join((*available, 'int8'))}, or auto"
            )
            raise EngineError(message)
        self.precision = "int8" if precision == "int8" else float_precision
        self._settings: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": _OPENVINO_TYPES[float_precision],
            "PERFORMANCE_HINT": "LATENCY",  # all cores on one batch
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
            # else the engines of several processes are all pinned to the same first cores
            self._settings["ENABLE_CPU_PINNING"] = False
        self._images = _LazyTower(self.compile_image_tower)
        self._texts = _LazyTower(self._compile_text_tower)
        self._patches: dict[PatchAttention, _LazyTower] = {}

    def encode_pixels(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n dim"]:
        """Encode images of the checkpoint's size to unit vectors.

        Raises:
            ValueError: the pixels have another shape or type.
        """
        pixels = check_pixels(pixels, self._config.vision.image_px)
        vectors = np.empty((len(pixels), self.dim), dtype=np.float32)
        for start in range(0, len(pixels), IMAGES_PER_CALL):
            rows = slice(start, start + IMAGES_PER_CALL)
            vectors[rows] = self._images(pixels[rows])
        return to_unit(vectors)

    def encode_patches(
        self, pixels: UInt8[np.ndarray, "n h w 3"], attention: PatchAttention
    ) -> Float32[np.ndarray, "n token dim"]:
        """Encode images and each of their patches; with ``int8``, too, in floats.

        Raises:
            ValueError: the pixels have another shape or type.
        """
        vision = self._config.vision
        pixels = check_pixels(pixels, vision.image_px)
        tower = self._patches.setdefault(
            attention, _LazyTower(partial(self._compile_patch_tower, attention))
        )
        n_tokens = (vision.image_px // vision.patch_px) ** 2 + 1
        vectors = np.empty((len(pixels), n_tokens, self.dim), dtype=np.float32)
        for start in range(0, len(pixels), IMAGES_PER_CALL):
            rows = slice(start, start + IMAGES_PER_CALL)
            vectors[rows] = to_unit(tower(pixels[rows]))
        return vectors

    def encode_tokens(self, tokens: Int[np.ndarray, "n token"]) -> Float32[np.ndarray, "n dim"]:
        """Encode tokenised texts to unit vectors; tokens after a text's end have no effect.

        Raises:
            ValueError: the tokens have another shape or type, or are outside the vocabulary.
        """
        tokens = check_tokens(tokens, self._config)
        ends = end_positions(tokens, self._config)
        vectors = np.empty((len(tokens), self.dim), dtype=np.float32)
        for start in range(0, len(tokens), TEXTS_PER_CALL):
            rows = slice(start, start + TEXTS_PER_CALL)
            padded = _padded(tokens[rows], ends[rows], self._config.text.context_length)
            vectors[rows] = self._texts(*padded)[: len(vectors[rows])]
        return to_unit(vectors)

    def compile_image_tower(self) -> ov.CompiledModel:
        """Compile the image tower; the first image does it otherwise."""
        pre = self._checkpoint.preprocess
        weights = self._checkpoint.weights()
        model, inputs = graph.image_tower(self._config, weights, mean=pre.mean, std=pre.std)
        if self._calibration is not None:
            ranges = self._ranges(model, inputs, weights, self._calibration)
            self._calibration = None  # no longer needed in memory
            model, _ = graph.image_tower(
                self._config,
                weights,
                mean=pre.mean,
                std=pre.std,
                ranges=ranges,
                max_weight=graph.MAX_WEIGHT if has_vnni() else graph.MAX_WEIGHT_WITHOUT_VNNI,
            )
        return self._core.compile_model(model, "CPU", self._settings)

    def _ranges(
        self,
        model: ov.Model,
        inputs: dict[str, ov.Node],
        weights: graph.Weights,
        pixels: np.ndarray,
    ) -> graph.Ranges:
        """Run images through the float graph and record the inputs of each linear layer."""
        extremes = graph.extremes(model, inputs)
        compiled = self._core.compile_model(extremes, "CPU", self._settings)
        lows, highs = [], []
        for start in range(0, len(pixels), IMAGES_PER_CALL):
            results = compiled(pixels[start : start + IMAGES_PER_CALL])
            found = [results[i_output] for i_output in range(2 * len(inputs))]
            lows.append(found[: len(inputs)])
            highs.append(found[len(inputs) :])
        max_weights = graph.max_weights_by_input(weights, "vision_model", list(inputs))
        return {
            name: graph.activation_range(
                np.min([low[i] for low in lows], axis=0),
                np.max([high[i] for high in highs], axis=0),
                max_weights[name],
            )
            for i, name in enumerate(inputs)
        }

    def _compile_patch_tower(self, attention: PatchAttention) -> ov.CompiledModel:
        pre = self._checkpoint.preprocess
        model = patch_tower(
            self._config,
            self._checkpoint.weights(),
            mean=pre.mean,
            std=pre.std,
            attention=attention,
        )
        return self._core.compile_model(model, "CPU", self._settings)

    def _compile_text_tower(self) -> ov.CompiledModel:
        model = graph.text_tower(self._config, self._checkpoint.weights())
        return self._core.compile_model(model, "CPU", self._settings)


def _padded(tokens: np.ndarray, ends: np.ndarray, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad texts to one of a few shapes, by repeating the last text and the last token."""
    n, width = tokens.shape
    n_more = (1 << (n - 1).bit_length() if n < TEXT_STEP else _up(n, TEXT_STEP)) - n
    length = min(_up(int(ends.max()) + 1, TOKEN_STEP), max_tokens)
    more = ((0, n_more), (0, max(0, length - width)))
    return np.pad(tokens[:, :length], more, mode="edge"), np.pad(ends, (0, n_more), mode="edge")


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


class _LazyTower:
    """A graph that is compiled at its first call. Thread-safe; calls run one at a time."""

    def __init__(self, compile_model: Callable[[], ov.CompiledModel]) -> None:
        self._compile_model = compile_model
        self._request: ov.InferRequest | None = None
        self._lock = threading.Lock()

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        with self._lock:
            if self._request is None:
                self._request = self._compile_model().create_infer_request()
            for i_input, array in enumerate(inputs):
                self._request.set_input_tensor(i_input, ov.Tensor(array, shared_memory=True))
            self._request.infer()
            vectors: np.ndarray = self._request.get_output_tensor(0).data.copy()
            return vectors


def precisions_here() -> tuple[str, ...]:
    """The float precisions that this CPU supports natively."""
    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found = ["float32"]
    if "BF16" in capabilities and has_bfloat16() is not False:  # OpenVINO counts emulation too
        found.append("bfloat16")
    if "FP16" in capabilities:
        found.append("float16")
    return tuple(found)


def _best(available: tuple[str, ...]) -> str:
    return "bfloat16" if "bfloat16" in available else "float32"
