"""A step's loss and gradients, alone or under torchrun, written to a file; see test_train_run."""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from fashionclip.checkpoint import open_checkpoint
from fashionclip.engines.io import end_positions
from fashionclip.train import distributed, losses
from fashionclip.train.gradients import backward
from fashionclip.train.passes import Inputs, make_passes, sides_of
from fashionclip.train.recipe import Loss, Model
from fashionclip.train.towers import choose_weights, open_towers, trainable

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
    none = torch.zeros(N, 0, dtype=torch.int64)
    with distributed.processes(cpu) as share:
        mine = N // share.world
        rows = slice(share.rank * mine, (share.rank + 1) * mine)
        pixels, tokens, ends = (torch.from_numpy(a[rows].copy()) for a in arrays)
        inputs = Inputs(pixels, tokens, ends.long(), None)
        relations = losses.relate(keys[rows], none[rows], keys, none, rows.start)
        for kind in ("infonce", "siglip"):
            towers = open_towers(checkpoint, cpu)
            choose_weights(towers, Model(), seed=0)
            model = distributed.spread(towers, share, parallel="ddp")
            scale = losses.Temperature(3.0, has_bias=kind == "siglip")

            def loss_of(pictures, texts, scale=scale, kind=kind):
                sides = sides_of(pictures, texts, share)
                return losses.contrastive(sides, scale, relations, Loss(kind=kind))

            chunk = CHUNK if share.world > 1 else 0
            loss = backward(model, inputs, make_passes(checkpoint, cpu, "float32"), loss_of,
                            chunk_size=chunk)  # fmt: skip
            distributed.average(loss, *(p.grad for p in scale.parameters()))
            named = {**trainable(model), **dict(scale.named_parameters())}
            found = {name: weight.grad.numpy() for name, weight in named.items()}
            if share.rank == 0:
                path = out / f"{kind}-{share.world}.safetensors"
                save_file({**found, "loss": loss.numpy()}, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
