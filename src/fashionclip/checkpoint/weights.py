"""A checkpoint's tensors by name, each read from disk on access.

A text search never reads the image tower's weights. Files are memory-mapped. bfloat16, which NumPy
lacks, is converted to float32. Weights are written one tensor at a time, which the safetensors
library cannot do.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from fashionclip.checkpoint.config import CLIPConfig, expected_shapes
from fashionclip.errors import CheckpointError
from fashionclip.lines import reason_of

Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and type (``F32`` or ``F16``) of every tensor, by name."""
SINGLE = "model.safetensors"
SHARDED = "model.safetensors.index.json"
_BUFFERS = ("position_ids",)  # 0, 1, 2, … in old files; not a weight
_BFLOAT16 = "BF16"
_READABLE = ("F64", "F32", "F16", _BFLOAT16)
_STORED: Mapping[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


class Weights(Mapping[str, np.ndarray]):
    """Arrays by tensor name: float16 as stored, everything else as float32."""

    def __init__(self, files: Mapping[Path, Any]) -> None:
        """Hold open safetensors files."""
        self.paths = tuple(files)
        self._bfloat16: dict[Path, _BFloat16File] = {}
        self._home = {
            name: (path, file)
            for path, file in files.items()
            for name in file.keys()  # noqa: SIM118  a safetensors handle, not a dict
            if not name.endswith(_BUFFERS)
        }

    def __getitem__(self, name: str) -> np.ndarray:
        """Read one tensor."""
        path, file = self._home[name]
        if file.get_slice(name).get_dtype() == _BFLOAT16:
            if path not in self._bfloat16:
                self._bfloat16[path] = _BFloat16File(path)
            return self._bfloat16[path].read(name)
        array: np.ndarray = file.get_tensor(name)
        return array if array.dtype == np.float16 else array.astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[str]:
        """The names, in their order on disk."""
        return iter(self._home)

    def __len__(self) -> int:
        """The number of tensors."""
        return len(self._home)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return tuple(self._home[name][1].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """A tensor's type on disk, as safetensors names it, such as BF16."""
        return str(self._home[name][1].get_slice(name).get_dtype())

    def fingerprint(self) -> str:
        """A hash over names, shapes and values; the split into files has no effect."""
        with ThreadPoolExecutor() as pool:  # 600 MB take one core half a second
            digests = pool.map(self._digest, sorted(self._home))
            return hashlib.sha256(b"".join(digests)).hexdigest()

    def _digest(self, name: str) -> bytes:
        array = np.ascontiguousarray(self[name])
        digest = hashlib.sha256(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data if array.ndim else array.tobytes())
        return digest.digest()


def open_weights(folder: Path, config: CLIPConfig, *, name: str) -> Weights:
    """Open the safetensors files of a folder and check them against the configuration.

    Args:
        folder: the checkpoint.
        config: its configuration.
        name: the model's name for messages: a hub repository or the folder.

    Raises:
        CheckpointError: a file is missing or truncated, a tensor is missing or has another shape
            than the configuration says, or a weight is not finite.
    """
    weights = open_files(_files_of(folder, name))
    _check_tensors(weights, config, folder)
    check_finite(weights, (name for name, _ in expected_shapes(config)), place=folder)
    return weights


def check_finite(weights: Mapping[str, np.ndarray], names: Iterable[str], *, place: Path) -> None:
    """Refuse weights that are NaN or infinite, which would make every vector NaN.

    Raises:
        CheckpointError: a tensor of these names holds one; the message names the tensor.
    """

    def is_finite(name: str) -> bool:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite
            return _is_finite(weights[name])

    names = list(names)
    with ThreadPoolExecutor() as pool:
        broken = [n for n, fine in zip(names, pool.map(is_finite, names), strict=True) if not fine]
    if broken:
        others = f" (and {len(broken) - 1} more)" if broken[1:] else ""
        message = (
            f"{broken[0]}{others} holds NaN or infinite values in {place}, as a diverged training "
            "run leaves them; fetch the checkpoint again, or take an earlier one"
        )
        raise CheckpointError(message)


def _is_finite(array: np.ndarray) -> bool:
    if array.dtype == np.float16:  # as integers: NumPy compares halves by converting each
        exponents = array.view(np.uint16) & 0x7C00
        return not bool((exponents == 0x7C00).any())
    return array.size == 0 or bool(np.isfinite(array.max()) and np.isfinite(array.min()))


def open_files(paths: Iterable[Path]) -> Weights:
    """Open safetensors files with any tensors.

    Raises:
        CheckpointError: a file is missing, truncated or not a safetensors file.
    """
    handles: dict[Path, Any] = {}
    for path in paths:
        try:
            handles[path] = safe_open(path, "numpy")
        except FileNotFoundError as exc:
            message = f"{path} is missing; fetch the checkpoint again"
            raise CheckpointError(message) from exc
        except Exception as exc:  # the library has its own error type for a broken header
            detail = reason_of(exc)
            message = f"{path} is truncated or not a safetensors file ({detail}); fetch it again"
            raise CheckpointError(message) from exc
    return Weights(handles)


def write_weights(
    path: Path,
    layout: Layout,
    tensor: Callable[[str], np.ndarray],
) -> None:
    """Write a safetensors file with one tensor in memory at a time.

    Args:
        path: the file; it is written in place, so pass a temporary name.
        layout: shape and type of every tensor.
        tensor: returns the tensor of a name.

    Raises:
        OSError: the disk is full, or the file cannot be written.
        ValueError: a tensor has another shape than the layout says.

    Source: the format's description in huggingface/safetensors: eight bytes of length, a JSON
        header padded with spaces, then the tensors without gaps between them.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, kind) in layout.items():
        start, end = end, end + math.prod(shape) * _STORED[kind].itemsize
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, (shape, kind) in layout.items():
            values = np.asarray(tensor(name), _STORED[kind], order="C")
            if values.shape != shape:
                message = f"{name} has the shape {values.shape}, not {shape}"
                raise ValueError(message)
            file.write(values.tobytes())


def _files_of(folder: Path, name: str) -> list[Path]:
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if (folder / SHARDED).exists():
        try:
            index = json.loads((folder / SHARDED).read_text(encoding="utf-8"))
            return sorted({folder / name for name in index["weight_map"].values()})
        except (ValueError, KeyError, AttributeError) as exc:
            message = f"{folder / SHARDED} cannot be read ({exc}); fetch the checkpoint again"
            raise CheckpointError(message) from exc
    into = folder if Path(name).is_dir() else Path(name).name  # of a repository: a new folder
    message = (
        f"the model '{name}' has no {SINGLE}; if it holds pytorch_model.bin, convert it once: "
        f'python -c "from transformers import CLIPModel as M, CLIPProcessor as P; '
        f"[kind.from_pretrained('{name}').save_pretrained('{into}') for kind in (M, P)]\" "
        f"and open '{into}'"
    )
    raise CheckpointError(message)


def _check_tensors(weights: Weights, config: CLIPConfig, folder: Path) -> None:
    expected = dict(expected_shapes(config))
    missing = [name for name in expected if name not in weights]
    if missing:
        message = (
            f"the weights in {folder} lack {missing[0]}"
            f"{f' and {len(missing) - 1} more' if missing[1:] else ''}; "
            "they are not a CLIP model's with both towers, or config.json belongs to another model"
        )
        raise CheckpointError(message)
    for name, shape in expected.items():
        found = weights.shape(name)
        if found != shape and not (shape == () and found == (1,)):
            message = (
                f"{name} in {folder} has the shape {found}, but config.json says {shape}; "
                "the two files belong to different models"
            )
            raise CheckpointError(message)
        if weights.dtype(name) not in _READABLE:
            message = (
                f"{name} in {folder} is stored as {weights.dtype(name)}; "
                "save the model in float32, float16 or bfloat16"
            )
            raise CheckpointError(message)


class _BFloat16File:
    """Reads bfloat16 tensors, which the safetensors library does not give to NumPy."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            self._entries = json.loads(file.read(header_size))
        self._bytes = np.memmap(path, np.uint8, mode="r", offset=8 + header_size)

    def read(self, name: str) -> np.ndarray:
        """Read one tensor; bfloat16 is the upper half of float32."""
        entry = self._entries[name]
        start, end = entry["data_offsets"]
        wide = self._bytes[start:end].view("<u2").astype(np.uint32) << 16
        values: np.ndarray = wide.view(np.float32).reshape(entry["shape"])
        return values
