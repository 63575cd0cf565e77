"""Print the peak memory of a step in MB, for a batch and a chunk size; see test_train_losses."""

import sys
from pathlib import Path

import numpy as np
import torch

from fashionclip.checkpoint import open_checkpoint
from fashionclip.engines.io import end_positions
from fashionclip.train.distributed import SINGLE_PROCESS
from fashionclip.train.loss import Targets, Temperature, find_duplicates, gather_features, info_nce
from fashionclip.train.model import Inputs, load_towers, make_forward
from fashionclip.train.optimizer import backward


def main(folder: Path, n: int, chunk: int) -> None:
    """Print by how much memory rose during the step."""
    checkpoint, cpu = open_checkpoint(folder), torch.device("cpu")
    side = checkpoint.config.vision.image_px
    pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    tokens = checkpoint.tokenizer.encode([f"red dress {i}" for i in range(n)])
    ends = end_positions(tokens, checkpoint.config)
    inputs = Inputs(*(torch.from_numpy(a.astype(t)) for a, t in
                      ((pixels, "uint8"), (tokens, "int64"), (ends, "int64"))), None)  # fmt: skip
    towers = load_towers(checkpoint, cpu)
    temperature = Temperature(3.0, has_bias=False)
    keys = torch.arange(3 * n).reshape(n, 3)
    targets = Targets(find_duplicates(keys, keys, first=0))

    def loss_of(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return info_nce(gather_features(images, texts, temperature, SINGLE_PROCESS), targets)

    before = peak_kb()
    backward(towers, inputs, make_forward(checkpoint, cpu, "float32"), loss_of, chunk_size=chunk)
    sys.stdout.write(f"{(peak_kb() - before) / 1024}")


def peak_kb() -> int:
    """Peak memory; ``getrusage`` would include the parent process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
