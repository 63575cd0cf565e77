"""Pixels and tokens to unit vectors, on whatever the machine has.

``open_engine`` picks: OpenVINO on a CPU, PyTorch on a CUDA or MPS device. Neither is
imported before it is picked, and PyTorch (some seconds to import) not even to look for a
device: a machine without a driver's device file has none.
"""

import importlib.util
import platform
import re
import sys
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float32, Int, UInt8
from numpy import ndarray

from fashionclip.checkpoint import Checkpoint
from fashionclip.errors import EngineError

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps", "torch-cpu")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")

# OpenVINO tells its makers of every import, over the network; without this module it keeps quiet
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

_GPU_DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, either under WSL


@runtime_checkable
class Engine(Protocol):
    """Two towers on a device. Calls block, release Python's lock, and may come from any thread."""

    @property
    def device(self) -> str:
        """``cpu`` (OpenVINO), or the PyTorch device: ``cuda:0``, ``mps``, ``torch-cpu``."""

    @property
    def precision(self) -> str:
        """What the matrix products are computed in; one of ``PRECISIONS`` but ``auto``."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""

    def encode_pixels(self, pixels: UInt8[ndarray, "n h w 3"]) -> Float32[ndarray, "n dim"]:
        """Encode pictures of the checkpoint's size to unit vectors."""

    def encode_tokens(self, tokens: Int[ndarray, "n token"]) -> Float32[ndarray, "n dim"]:
        """Encode tokenised texts to unit vectors; what follows a text's end has no effect."""


def open_engine(
    checkpoint: Checkpoint,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    calibration: UInt8[ndarray, "n h w 3"] | None = None,
) -> Engine:
    """Open the engine for a device. Each tower is compiled when it is first used.

    Args:
        checkpoint: the model.
        device: ``cpu`` is OpenVINO; ``cuda``, ``cuda:1``, ``mps`` and ``torch-cpu`` are PyTorch;
            ``auto`` is PyTorch where it is installed and sees a GPU, else ``cpu``.
        precision: ``auto`` is the fastest that keeps a cosine of 0.999 to float32: bfloat16 where
            the hardware has it, else float16 on a GPU and float32 on a CPU. ``int8`` (``cpu``
            only) makes the picture tower's products int8; texts stay as with ``auto``.
        threads: cores the engine may use; None for all. Without effect on a GPU.
        calibration: for ``int8``: some dozens of typical pictures, as ``images.preprocess`` gives
            them, whose activations set the ranges.

    Raises:
        EngineError: no such device or precision here, or ``int8`` without ``calibration``.
        MissingExtraError: the device needs PyTorch, which is not installed.
    """
    _check_names(device, precision)
    if device == "auto":
        device = _device_here()
    if device == "cpu":
        from fashionclip.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(
            checkpoint, precision=precision, threads=threads, calibration=calibration
        )
    from fashionclip.engines.pytorch import PyTorchEngine

    return PyTorchEngine(checkpoint, device=device, precision=precision, threads=threads)


def _check_names(device: str, precision: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps|torch-cpu", device):
        message = f"no device is called '{device}'; choose from {', '.join(DEVICES)}"
        raise EngineError(message)
    if precision not in PRECISIONS:
        message = f"no precision is called '{precision}'; choose from {', '.join(PRECISIONS)}"
        raise EngineError(message)


def _device_here() -> str:
    """Find the best device, importing PyTorch only where it may see a GPU."""
    if importlib.util.find_spec("torch") is None or not _may_have_gpu():
        return "cpu"
    from fashionclip.engines.pytorch import gpu_here

    return gpu_here() or "cpu"


def _may_have_gpu() -> bool:
    system = platform.system()
    if system == "Darwin":
        return platform.machine() == "arm64"
    if system == "Linux":
        return any(Path(file).exists() for file in _GPU_DEVICE_FILES)
    return True
