"""Checkpoints: folders in the transformers format are found, read, checked, written, converted."""

from fashionclip.checkpoint.config import CLIPConfig, TextConfig, TowerConfig, VisionConfig
from fashionclip.checkpoint.folder import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.checkpoint.open_clip import from_open_clip, to_open_clip

__all__ = [
    "CLIPConfig",
    "Checkpoint",
    "TextConfig",
    "TowerConfig",
    "VisionConfig",
    "from_open_clip",
    "open_checkpoint",
    "save_checkpoint",
    "to_open_clip",
]
