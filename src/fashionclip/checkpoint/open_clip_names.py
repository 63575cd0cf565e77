"""The names of tensors in open_clip and in transformers, and the way between them.

The two hold the same numbers under other names: open_clip stacks query, key and value into
one matrix and keeps its projections transposed. One table of names serves both ways.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from fashionclip.checkpoint.config import CLIPConfig
from fashionclip.errors import CheckpointError

# open_clip's name, transformers' name, whether one is the other's transpose
_TENSORS = (
    ("logit_scale", "logit_scale", False),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight", False),
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight", False),
    ("ln_final.weight", "text_model.final_layer_norm.weight", False),
    ("ln_final.bias", "text_model.final_layer_norm.bias", False),
    ("text_projection", "text_projection.weight", True),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding", False),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight", False),
    ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight", False),
    ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight", False),
    ("visual.ln_pre.bias", "vision_model.pre_layrnorm.bias", False),
    ("visual.ln_post.weight", "vision_model.post_layernorm.weight", False),
    ("visual.ln_post.bias", "vision_model.post_layernorm.bias", False),
    ("visual.proj", "visual_projection.weight", True),
)
_LAYER = (
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
_TOWERS = (("transformer", "text_model"), ("visual.transformer", "vision_model"))
_PARTS = ("q_proj", "k_proj", "v_proj")
_KINDS = ("weight", "bias")
# OpenAI's files carry their sizes as tensors; early ones of open_clip the causal mask
_NO_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}


def to_transformers_names(state: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield open_clip's tensors under the names of transformers.

    Raises:
        KeyError: one is missing.
    """
    for theirs, ours, is_transposed in _TENSORS:
        yield ours, state[theirs].T if is_transposed else state[theirs]
    for theirs, ours in _TOWERS:
        for i_layer in range(n_layers(state, theirs)):
            block, layer = f"{theirs}.resblocks.{i_layer}", f"{ours}.encoder.layers.{i_layer}"
            for kind in _KINDS:
                for their_part, our_part in _LAYER:
                    yield f"{layer}.{our_part}.{kind}", state[f"{block}.{their_part}.{kind}"]
                stacked = np.split(state[f"{block}.attn.in_proj_{kind}"], 3)
                for part, array in zip(_PARTS, stacked, strict=True):
                    yield f"{layer}.self_attn.{part}.{kind}", array


def to_open_clip_names(
    weights: Mapping[str, np.ndarray], config: CLIPConfig
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a transformers checkpoint's tensors under the names of open_clip."""
    for theirs, ours, is_transposed in _TENSORS:
        yield theirs, weights[ours].T if is_transposed else weights[ours]
    for (theirs, ours), tower in zip(_TOWERS, (config.text, config.vision), strict=True):
        for i_layer in range(tower.layers):
            block, layer = f"{theirs}.resblocks.{i_layer}", f"{ours}.encoder.layers.{i_layer}"
            for kind in _KINDS:
                for their_part, our_part in _LAYER:
                    yield f"{block}.{their_part}.{kind}", weights[f"{layer}.{our_part}.{kind}"]
                stacked = [weights[f"{layer}.self_attn.{part}.{kind}"] for part in _PARTS]
                yield f"{block}.attn.in_proj_{kind}", np.concatenate(stacked)


def check_all_used(state: Mapping[str, np.ndarray], source: Path) -> None:
    """Refuse weights that would be left behind: the model would no longer be the same.

    Raises:
        CheckpointError: there are such.
    """
    known = {theirs for theirs, _, _ in _TENSORS} | _NO_WEIGHTS
    for tower, _ in _TOWERS:
        for i_layer in range(n_layers(state, tower)):
            block = f"{tower}.resblocks.{i_layer}"
            known |= {f"{block}.{part}.{kind}" for part, _ in _LAYER for kind in _KINDS}
            known |= {f"{block}.attn.in_proj_{kind}" for kind in _KINDS}
    left = sorted(state.keys() - known)
    if left:
        others = f" and {len(left) - 1} more" if left[1:] else ""
        message = (
            f"{source} holds {left[0]}{others}; a CLIP in the transformers format has no place for "
            "it, so this model does not convert"
        )
        raise CheckpointError(message)


def n_layers(state: Mapping[str, np.ndarray], tower: str) -> int:
    """How many layers a tower has, by open_clip's names.

    Raises:
        KeyError: none.
    """
    prefix = f"{tower}.resblocks."
    numbers = {int(n[len(prefix) :].split(".")[0]) for n in state if n.startswith(prefix)}
    if not numbers:
        raise KeyError(prefix)
    return max(numbers) + 1
