"""Checkpoints: folders in the transformers format are found, read, checked, written, converted."""

from fashionclip.checkpoint.config import CLIPConfig, TextConfig, TowerConfig, VisionConfig
from fashionclip.checkpoint.folder import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.checkpoint.open_clip import from_open_clip, to_open_clip
from fashionclip.checkpoint.patch_attention import AttentionKind, PatchAttention

__all__ = [
    "AttentionKind",
    "CLIPConfig",
    "Checkpoint",
    "PatchAttention",
    "TextConfig",
    "TowerConfig",
    "VisionConfig",
    "from_open_clip",
    "open_checkpoint",
    "save_checkpoint",
    "to_open_clip",
]
