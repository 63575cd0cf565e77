"""Write a step's loss and gradients to a file, alone or under torchrun; see test_train_run."""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from fashionclip.checkpoint import open_checkpoint
from fashionclip.engines.io import end_positions
from fashionclip.train import distributed
from fashionclip.train.loss import (
    LOSS_TERMS,
    Targets,
    Temperature,
    find_duplicates,
    gather_features,
)
from fashionclip.train.model import (
    Inputs,
    load_towers,
    make_forward,
    set_trainable,
    trainable_weights,
)
from fashionclip.train.optimizer import backward
from fashionclip.train.recipe import ModelConfig

N, CHUNK = 12, 4


def main(folder: Path, out: Path) -> None:
    """Write the gradients of both losses."""
    checkpoint, cpu = open_checkpoint(folder), torch.device("cpu")
    rng = np.random.default_rng(0)
    side = checkpoint.config.vision.image_px
    pixels = rng.integers(0, 256, (N, side, side, 3), dtype=np.uint8)
    tokens = checkpoint.tokenizer.encode([f"red dress {'long ' * (i % 4)}{i}" for i in range(N)])
    arrays = (pixels, tokens.astype(np.int64), end_positions(tokens, checkpoint.config))
    keys = torch.arange(3 * N).reshape(N, 3) // 6
    with distributed.process_group(cpu) as group:
        n_own = N // group.size
        rows = slice(group.rank * n_own, (group.rank + 1) * n_own)
        pixels, tokens, ends = (torch.from_numpy(a[rows].copy()) for a in arrays)
        inputs = Inputs(pixels, tokens, ends.long(), None)
        targets = Targets(find_duplicates(keys[rows], keys, first=rows.start))
        for kind in ("infonce", "siglip"):
            towers = load_towers(checkpoint, cpu)
            set_trainable(towers, ModelConfig(), seed=0)
            model = distributed.parallelize(towers, group, parallel="ddp")
            scale = Temperature(3.0, has_bias=kind == "siglip")

            def loss_of(images, texts, scale=scale, kind=kind):
                return LOSS_TERMS[kind](gather_features(images, texts, scale, group), targets)

            chunk = CHUNK if group.size > 1 else 0
            forward = make_forward(checkpoint, cpu, "float32")
            loss = backward(model, inputs, forward, loss_of, chunk_size=chunk)
            distributed.average(loss, *(p.grad for p in scale.parameters()))
            named = {**trainable_weights(model), **dict(scale.named_parameters())}
            found = {name: weight.grad.numpy() for name, weight in named.items()}
            if group.is_first:
                path = out / f"{kind}-{group.size}.safetensors"
                save_file({**found, "loss": loss.numpy()}, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
