"""How a checkpoint's last layer gives one vector for each patch, as ``config.json`` may say.

CLIP is trained on the class token alone. Its patches say where a word is only after the last
layer's attention is replaced, so that a patch attends to its like. Which replacement serves best
differs from checkpoint to checkpoint; ``benchmarks/localization.py`` measures them on masks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fashionclip.errors import CheckpointError

AttentionKind = Literal["plain", "values", "sclip", "naclip"]
KEY = "patch_attention"
"""Of ``config.json``: ``{"kind": "naclip", "residual": false, "mlp": false}``."""


@dataclass(frozen=True, slots=True)
class PatchAttention:
    """What the last layer computes for the patches.

    Sources: Zhou et al. 2022 (MaskCLIP, ``values``); Wang et al. 2023 (SCLIP); Hajimiri et al. 2024
    (NACLIP); Lan et al. 2024 (ClearCLIP, for leaving out residual and MLP).
    """

    kind: AttentionKind = "naclip"
    """``plain``: CLIP's own; ``values``: each patch keeps its value; ``sclip``: the softmax of q qᵀ
    plus that of k kᵀ; ``naclip``: the softmax of k kᵀ plus a Gaussian of the distance."""
    residual: bool = False
    """Whether the layer's input is added, as in CLIP."""
    mlp: bool = False
    """Whether the layer's MLP is computed, as in CLIP."""


def read_patch_attention(raw: Mapping[str, Any], *, place: str) -> PatchAttention:
    """Read the key of a ``config.json``; without it, NACLIP's choice, the best on ViT-B/32.

    Raises:
        CheckpointError: the key holds something else.
    """
    given = raw.get(KEY, {})
    kinds = get_args(AttentionKind)
    is_valid = (
        isinstance(given, Mapping)
        and given.get("kind", "naclip") in kinds
        and all(isinstance(given.get(name, False), bool) for name in ("residual", "mlp"))
        and not set(given) - {"kind", "residual", "mlp"}
    )
    if not is_valid:
        message = (
            f"{place}: {KEY} is {given!r}; it has kind ({', '.join(kinds)}), residual and mlp "
            "(true or false)"
        )
        raise CheckpointError(message)
    return PatchAttention(**given)
