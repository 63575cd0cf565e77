"""Choice of engine, device and precision: OpenVINO on a CPU, PyTorch on a CUDA or MPS device.

``open_engine`` imports only the engine that it opens. PyTorch takes seconds to import, so a
machine without a GPU driver's device file is not asked for a GPU. What the processor computes
natively is read from the operating system alone.
"""

import importlib.util
import platform
import re
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float32, Int, UInt8
from numpy import ndarray

from fashionclip.checkpoint import Checkpoint, PatchAttention
from fashionclip.errors import EngineError

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps", "torch-cpu")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")

_CPUINFO = Path("/proc/cpuinfo")
GPU_DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, either under WSL


@runtime_checkable
class Engine(Protocol):
    """Two towers on a device. Calls are thread-safe and release the GIL."""

    @property
    def device(self) -> str:
        """``cpu`` (OpenVINO), or the PyTorch device: ``cuda:0``, ``mps``, ``torch-cpu``."""

    @property
    def precision(self) -> str:
        """Precision of the matrix products; one of ``PRECISIONS`` except ``auto``."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""

    def encode_pixels(self, pixels: UInt8[ndarray, "n h w 3"]) -> Float32[ndarray, "n dim"]:
        """Encode images of the checkpoint's size to unit vectors."""

    def encode_patches(
        self, pixels: UInt8[ndarray, "n h w 3"], attention: PatchAttention
    ) -> Float32[ndarray, "n token dim"]:
        """Encode images and each of their patches to unit vectors.

        The first vector of an image is its own, as ``encode_pixels`` gives it. The others are of
        its patches, row by row.
        """

    def encode_tokens(self, tokens: Int[ndarray, "n token"]) -> Float32[ndarray, "n dim"]:
        """Encode tokenised texts to unit vectors; tokens after a text's end have no effect."""


def open_engine(
    checkpoint: Checkpoint,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    calibration: UInt8[ndarray, "n h w 3"] | None = None,
) -> Engine:
    """Open the engine for a device. Each tower is compiled at its first use.

    Args:
        checkpoint: the model.
        device: ``cpu`` is OpenVINO; ``cuda``, ``cuda:1``, ``mps`` and ``torch-cpu`` are PyTorch;
            ``auto`` is PyTorch where it is installed and finds a GPU, else ``cpu``.
        precision: ``auto`` is the fastest that keeps a cosine of 0.999 to float32: bfloat16 where
            the hardware supports it, else float16 on a GPU and float32 on a CPU. ``int8``
            (``cpu`` only) applies to the image tower; texts are encoded as with ``auto``.
        threads: cores that the engine may use; None for all. No effect on a GPU.
        calibration: for ``int8``: some dozens of typical images, as ``images.decode.preprocess``
            returns them, whose activations set the ranges.

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
        message = f"unknown device '{device}'; choose from {', '.join(DEVICES)}"
        raise EngineError(message)
    if precision not in PRECISIONS:
        message = f"unknown precision '{precision}'; choose from {', '.join(PRECISIONS)}"
        raise EngineError(message)


def _device_here() -> str:
    """The best device here; PyTorch is imported only where there may be a GPU."""
    if importlib.util.find_spec("torch") is None or not _may_have_gpu():
        return "cpu"
    from fashionclip.engines.pytorch import gpu_here

    return gpu_here() or "cpu"


def _may_have_gpu() -> bool:
    system = platform.system()
    if system == "Darwin":
        return platform.machine() == "arm64"
    if system == "Linux":
        return any(Path(file).exists() for file in GPU_DEVICE_FILES)
    return True


def has_bfloat16() -> bool | None:
    """Whether the CPU multiplies bfloat16 natively; None where the system does not say."""
    flags = _flags()
    return None if flags is None else bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def has_vnni() -> bool:
    """Whether the CPU sums products of bytes in 32 bits; only some x86 processors do not."""
    if platform.machine() not in {"x86_64", "AMD64"} or (flags := _flags()) is None:
        return True
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})


def _flags() -> set[str] | None:
    """Feature flags of the first core on Linux; None on other systems."""
    if not _CPUINFO.exists():
        return None
    for line in _CPUINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:  # x86, Arm
            return set(value.split())
    return set()
