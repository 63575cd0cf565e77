"""The image tower with vectors of all patches, as an OpenVINO graph; its last layer differs."""

import numpy as np

from fashionclip.checkpoint import CLIPConfig, PatchAttention
from fashionclip.engines.graph import (
    Attend,
    Tower,
    Weights,
    attend_to_all,
    class_token,
    embedded_pixels,
    ints,
    op,
    ov,
    projected,
)
from fashionclip.engines.io import neighbourhood


def patch_tower(
    config: CLIPConfig,
    weights: Weights,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    attention: PatchAttention,
) -> ov.Model:
    """Build the tower: uint8 pixels ``(n, h, w, 3)`` to float32 ``(n, 1 + patch, dim)``.

    The first vector is the image's own, as ``image_tower`` computes it.

    Args:
        config: the checkpoint's sizes.
        weights: by their names in ``transformers``; float32 or float16.
        mean: as in ``image_tower``.
        std: as in ``image_tower``.
        attention: what the last layer computes for the patches.
    """
    vision = config.vision
    tower = Tower(weights, "vision_model", vision)
    pixels, x = embedded_pixels(tower, config, mean=mean, std=std)
    last = vision.layers - 1
    for i_layer in range(last):
        x = tower.layer(x, i_layer, attend_to_all)
    whole = tower.layer(x, last, attend_to_all, class_token)
    name = f"encoder.layers.{last}"
    normal = tower.norm(x, f"{name}.layer_norm1")
    attend = _attend(attention, vision.image_px // vision.patch_px)
    mixed = tower.attention(normal, normal, f"{name}.self_attn", attend)
    mixed = op.add(x, mixed) if attention.residual else mixed
    if attention.mlp:
        hidden = tower.mlp(mixed, name)
        mixed = op.add(mixed, hidden) if attention.residual else hidden
    end = op.constant(np.array([np.iinfo(np.int32).max], np.int64))
    patches = op.slice(mixed, ints(1), end, ints(1), ints(1))
    states = op.concat([whole, patches], 1)
    return ov.Model([projected(tower, states)], [pixels], "patch_tower")


def _attend(attention: PatchAttention, side: int) -> Attend:
    if attention.kind == "plain":
        return attend_to_all
    if attention.kind == "values":
        return lambda query, key, value: value
    if attention.kind == "sclip":
        return lambda query, key, value: op.add(
            op.scaled_dot_product_attention(query, query, value),
            op.scaled_dot_product_attention(key, key, value),
        )
    bias = op.constant(neighbourhood(side)[None, None])
    return lambda query, key, value: op.scaled_dot_product_attention(key, key, value, bias)
