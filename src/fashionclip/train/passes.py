"""A batch → unit vectors: moved to the device, normalised, run, and gathered from all processes."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fashionclip.checkpoint import Checkpoint
from fashionclip.engines.cpu import has_bfloat16
from fashionclip.engines.io import end_positions
from fashionclip.train import distributed
from fashionclip.train.loader import Batch, Share
from fashionclip.train.losses import Sides

NUMBERS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """One process's share of a batch on the device, as the towers take it."""

    pixels: Tensor
    """uint8 ``(n, h, w, 3)``."""
    tokens: Tensor
    ends: Tensor
    kept: Tensor | None

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.pixels)

    def part(self, rows: slice) -> "Inputs":
        """Some of the pairs."""
        kept = None if self.kept is None else self.kept[rows]
        return Inputs(self.pixels[rows], self.tokens[rows], self.ends[rows], kept)


@dataclass(frozen=True, slots=True)
class Passes:
    """How towers are run: what pixels are normalised by, and in which numbers."""

    mean: Tensor
    """Of pixels in 0…255, a channel; ``(3,)``."""
    std: Tensor
    autocast: torch.dtype | None = None

    def vectors(self, model: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Unit vectors of pictures and texts, float32 ``(n, dim)`` each."""
        with self._numbers(inputs.pixels.device):
            pixels = (inputs.pixels.float() - self.mean) / self.std
            found = model(pixels, inputs.tokens, inputs.ends, inputs.kept)
        pictures, texts = (functional.normalize(side.float(), dim=-1) for side in found)
        return pictures, texts

    def _numbers(self, device: torch.device) -> AbstractContextManager[object]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device.type, self.autocast)


def make_passes(checkpoint: Checkpoint, device: torch.device, precision: str) -> Passes:
    """How the towers of a checkpoint are run on a device."""
    pre = checkpoint.preprocess
    mean, std = (torch.tensor(three, device=device) * 255 for three in (pre.mean, pre.std))
    return Passes(mean, std, NUMBERS.get(precision))


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is a GPU where there is one."""
    if name != "auto":
        return torch.device("cpu" if name == "torch-cpu" else name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(wanted: str, device: torch.device) -> str:
    """The numbers of the products; ``auto`` is bfloat16 where the hardware has it."""
    if wanted != "auto":
        return wanted
    has_it = False
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        has_it = has_bfloat16() is True
    return "bfloat16" if has_it else "float32"


def inputs_of(batch: Batch, checkpoint: Checkpoint, device: torch.device) -> Inputs:
    """Move a batch to the device."""
    ends = end_positions(batch.tokens, checkpoint.config)
    arrays = (batch.pixels, batch.tokens.astype("int64"), ends.astype("int64"))
    pixels, tokens, where = (torch.from_numpy(a).to(device, non_blocking=True) for a in arrays)
    kept = None if batch.kept is None else torch.from_numpy(batch.kept).to(device)
    return Inputs(pixels, tokens, where, kept)


def sides_of(pictures: Tensor, texts: Tensor, share: Share) -> Sides:
    """This process's vectors beside those of all."""
    dim = pictures.shape[1]
    both = distributed.gather(torch.cat([pictures, texts], dim=1))
    return Sides(pictures, texts, both[:, :dim], both[:, dim:], share.rank * len(pictures))
