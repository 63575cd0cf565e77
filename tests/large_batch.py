"""Peak memory of a step, in MB, for a batch and a chunk size; see test_train_losses."""

import sys
from pathlib import Path

import numpy as np
import torch

from fashionclip.checkpoint import open_checkpoint
from fashionclip.engines.io import end_positions
from fashionclip.train import losses
from fashionclip.train.gradients import backward
from fashionclip.train.loader import Share
from fashionclip.train.passes import Inputs, make_passes, sides_of
from fashionclip.train.recipe import Loss
from fashionclip.train.towers import open_towers


def main(folder: Path, n: int, chunk: int) -> None:
    """Print how far memory rose above what was there before the step."""
    checkpoint, cpu = open_checkpoint(folder), torch.device("cpu")
    side = checkpoint.config.vision.image_px
    pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    tokens = checkpoint.tokenizer.encode([f"red dress {i}" for i in range(n)])
    ends = end_positions(tokens, checkpoint.config)
    inputs = Inputs(*(torch.from_numpy(a.astype(t)) for a, t in
                      ((pixels, "uint8"), (tokens, "int64"), (ends, "int64"))), None)  # fmt: skip
    towers = open_towers(checkpoint, cpu)
    scale = losses.Temperature(3.0, has_bias=False)
    keys, none = torch.arange(3 * n).reshape(n, 3), torch.zeros(n, 0, dtype=torch.int64)
    relations = losses.relate(keys, none, keys, none, 0)

    def loss_of(pictures: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return losses.contrastive(sides_of(pictures, texts, Share()), scale, relations, Loss())

    before = peak_kb()
    backward(towers, inputs, make_passes(checkpoint, cpu, "float32"), loss_of, chunk_size=chunk)
    sys.stdout.write(f"{(peak_kb() - before) / 1024}")


def peak_kb() -> int:
    """Most memory so far; ``getrusage`` would count what the process that started this one had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
