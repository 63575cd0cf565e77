"""Weights that only PyTorch can read: open_clip's ``.pt`` training checkpoints."""

import zipfile
from pathlib import Path

import numpy as np

from fashionclip.errors import CheckpointError, MissingExtraError


def read_pickled(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a ``.pt`` or ``.bin`` file; no code in it is run.

    Raises:
        CheckpointError: it is damaged, or holds more than tensors, or a program.
        MissingExtraError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as exc:
        message = f"{path} can be read by PyTorch only: pip install 'fashionclip[torch]'"
        raise MissingExtraError(message) from exc
    if _is_program(path):
        message = (
            f"{path} is a TorchScript program, as OpenAI released its models; take its weights "
            "from the hub, such as 'openai/clip-vit-base-patch32', or save them as safetensors"
        )
        raise CheckpointError(message)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
        return {
            name: tensor.numpy() if tensor.dtype == torch.float16 else tensor.float().numpy()
            for name, tensor in state.items()
        }
    except Exception as exc:  # unpickling raises anything
        detail = " ".join(str(exc).split())[:150]
        message = f"{path} is damaged or holds more than weights ({detail}); save it as safetensors"
        raise CheckpointError(message) from exc


def _is_program(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
