"""Make a checkpoint the built-in model: its files in the package, its weights in float16.

    python projects/builtin/ship.py runs/builtin-training/selected

The card stays as it is, since what it says about training and limits is written by hand.
"""

import argparse
from pathlib import Path

import numpy as np

from fashionclip.checkpoint import open_checkpoint, save_checkpoint
from fashionclip.checkpoint.folder import TRAINED_ON

BUILTIN = Path(__file__).parents[2] / "src" / "fashionclip" / "builtin"
SCALE = "logit_scale"
"""The one weight that stays float32: a rounded temperature would change every probability."""


def main() -> None:
    """Read the arguments, copy the checkpoint, and say what ships now."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="folder of the selected checkpoint")
    ship(parser.parse_args().checkpoint, BUILTIN)
    n_bytes = sum(path.stat().st_size for path in BUILTIN.iterdir())
    print(f"{open_checkpoint(BUILTIN).fingerprint}, {n_bytes / 1e6:.1f} MB")


def ship(source: Path, into: Path) -> None:
    """Write a checkpoint with the digests of its training data, and weights in float16.

    Args:
        source: the checkpoint's folder, with ``trained-on.safetensors``.
        into: the folder to write; a card in it is kept.

    Raises:
        CheckpointError: the checkpoint cannot be read, or not written.
        FileNotFoundError: it has no digests, so no figure could leave out what it was trained on.
    """
    checkpoint = open_checkpoint(source)
    weights = checkpoint.weights()
    layout = {name: (weights.shape(name), "F32" if name == SCALE else "F16") for name in weights}
    digests = (source / TRAINED_ON).read_bytes()
    save_checkpoint(checkpoint, into, weights=(layout, lambda name: np.asarray(weights[name])))
    (into / TRAINED_ON).write_bytes(digests)


if __name__ == "__main__":
    main()
