"""Both CLIP towers as PyTorch modules, whose weights are named as in transformers.

The PyTorch engine runs them, training fine-tunes them. Two optimisations leave the result
unchanged: the last layer computes only the token that is read, and texts are grouped by length,
so that little padding is computed.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import checkpoint as activation_checkpoint

from fashionclip.checkpoint import Checkpoint, CLIPConfig, TextConfig, TowerConfig, VisionConfig
from fashionclip.engines.io import QUICK_GELU_SLOPE

TEXT_GROUPS = 4
"""Groups of similar length that a batch of texts is computed in."""
MIN_TEXTS_PER_GROUP = 16

Pick = Callable[[Tensor], Tensor]
"""All tokens ``(n, token, width)`` to the one that is read ``(n, 1, width)``."""


class Towers(nn.Module):
    """A CLIP model: images and texts to vectors of one space."""

    def __init__(self, config: CLIPConfig) -> None:
        """Create the modules, with PyTorch's default initialisation."""
        super().__init__()
        self.config = config
        self.vision_model = VisionTower(config.vision)
        self.text_model = TextTower(config.text)
        self.visual_projection = nn.Linear(config.vision.width, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(config.text.width, config.projection_dim, bias=False)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "Towers":
        """Load a checkpoint's weights, in float32 on the CPU."""
        towers, weights = cls(checkpoint.config), checkpoint.weights()
        names = towers.state_dict()
        towers.load_state_dict(
            {name: torch.from_numpy(np.array(weights[name], np.float32)) for name in names}
        )
        return towers

    def forward(
        self, pixels: Tensor, tokens: Tensor, ends: Tensor, patch_indices: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Vectors of images and texts, not scaled to unit length.

        Args:
            pixels: normalised floats ``(n, h, w, 3)``.
            tokens: ``(m, token)``.
            ends: ``(m,)``: position of each text's end token; tokens after it have no effect.
            patch_indices: ``(n, k)``: the patches to encode; None for all.

        Returns:
            ``(n, dim)`` and ``(m, dim)``.
        """
        return self.encode_image(pixels, patch_indices), self.encode_text(tokens, ends)

    def encode_image(self, pixels: Tensor, patch_indices: Tensor | None = None) -> Tensor:
        """Vectors of images; arguments as in ``forward``."""
        vectors: Tensor = self.visual_projection(self.vision_model(pixels, patch_indices))
        return vectors

    def encode_text(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """Vectors of texts; arguments as in ``forward``."""
        vectors: Tensor = self.text_projection(self.text_model(tokens, ends))
        return vectors

    def keep_inputs_only(self, *, keep: bool = True) -> None:
        """Checkpoint activations: keep only each layer's input and recompute the rest."""
        self.vision_model.encoder.is_recomputed = keep
        self.text_model.encoder.is_recomputed = keep


class VisionTower(nn.Module):
    """The image tower, up to its projection."""

    def __init__(self, config: VisionConfig) -> None:
        """Create the modules."""
        super().__init__()
        self.config = config
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = _norm(config)  # the misspelling is in every checkpoint
        self.encoder = Encoder(config)
        self.post_layernorm = _norm(config)

    def forward(self, pixels: Tensor, patch_indices: Tensor | None = None) -> Tensor:
        """States of the class token; arguments as in ``Towers.forward``."""
        return self.encode(self._embed(pixels, patch_indices))

    def encode_tokens(self, pixels: Tensor, patch_indices: Tensor | None = None) -> Tensor:
        """The last layer's states of all tokens ``(n, 1 + patch, width)``, class token first."""
        embedded = self.pre_layrnorm(self._embed(pixels, patch_indices))
        states: Tensor = self.encoder(embedded, lambda tokens: tokens)
        return states

    def _embed(self, pixels: Tensor, patch_indices: Tensor | None) -> Tensor:
        parts = self.embeddings
        kernel = parts.patch_embedding.weight.permute(0, 2, 3, 1).flatten(1)
        x = functional.linear(cut_patches(pixels, self.config), kernel)
        x = x + parts.position_embedding.weight[1:]
        if patch_indices is not None:
            x = x.gather(1, patch_indices[:, :, None].expand(-1, -1, x.shape[2]))
        first = parts.class_embedding + parts.position_embedding.weight[0]
        return torch.cat([first.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)

    def encode(self, embedded: Tensor) -> Tensor:
        """States of the class token ``(n, width)``, from embeddings ``(n, token, width)``."""
        x = self.encoder(self.pre_layrnorm(embedded), lambda tokens: tokens[:, :1])
        states: Tensor = self.post_layernorm(x[:, 0])
        return states


class TextTower(nn.Module):
    """The text tower, up to its projection."""

    def __init__(self, config: TextConfig) -> None:
        """Create the modules."""
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = _norm(config)

    def forward(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """States of the end tokens; arguments as in ``Towers.forward``."""
        order = ends.argsort(stable=True)
        groups = []
        for rows in _groups(order):
            length = int(ends[rows].max()) + 1
            groups.append(self._encode(tokens[rows, :length], ends[rows]))
        x = torch.cat(groups)[order.argsort()]
        states: Tensor = self.final_layer_norm(x)
        return states

    def encode(self, tokens: Tensor, ends: Tensor) -> Tensor:
        """As ``forward``, but all texts at once, so that the exporter can trace it."""
        states: Tensor = self.final_layer_norm(self._encode(tokens, ends))
        return states

    def _encode(self, tokens: Tensor, ends: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.embeddings.token_embedding(tokens)
        x = x + self.embeddings.position_embedding.weight[:length]
        steps = torch.arange(length, device=tokens.device)
        is_read = (steps <= ends[:, None])[:, None, None, :]

        def end_token(states: Tensor) -> Tensor:
            return states.gather(1, ends[:, None, None].expand(-1, 1, states.shape[2]))

        x = self.encoder(x, end_token, is_causal=True, last_mask=is_read)
        read: Tensor = x[:, 0]
        return read


class VisionEmbeddings(nn.Module):
    """Embeddings of the patches and the class token."""

    def __init__(self, config: VisionConfig) -> None:
        """Create the parameters."""
        super().__init__()
        n_patches = (config.image_px // config.patch_px) ** 2
        patch = config.patch_px
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.patch_embedding = nn.Conv2d(3, config.width, patch, patch, bias=False)
        self.position_embedding = nn.Embedding(n_patches + 1, config.width)


class TextEmbeddings(nn.Module):
    """Embeddings of the tokens."""

    def __init__(self, config: TextConfig) -> None:
        """Create the parameters."""
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.context_length, config.width)


class Encoder(nn.Module):
    """The layers of one tower."""

    def __init__(self, config: TowerConfig) -> None:
        """Create the layers."""
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.is_recomputed = False

    def forward(
        self,
        x: Tensor,
        pick: Pick,
        *,
        is_causal: bool = False,
        last_mask: Tensor | None = None,
    ) -> Tensor:
        """The token that ``pick`` selects ``(n, 1, width)``; the last layer computes no other."""
        for layer in self.layers[:-1]:
            if self.is_recomputed and torch.is_grad_enabled():
                x = activation_checkpoint.checkpoint(
                    layer, x, is_causal=is_causal, use_reentrant=False
                )
            else:
                x = layer(x, is_causal=is_causal)
        states: Tensor = self.layers[-1](x, pick=pick, mask=last_mask)
        return states


class Layer(nn.Module):
    """A pre-norm transformer layer: attention and an MLP, each with a residual connection."""

    def __init__(self, config: TowerConfig) -> None:
        """Create the modules."""
        super().__init__()
        self.heads, self.activation = config.heads, config.activation
        self.layer_norm1 = _norm(config)
        self.self_attn = Attention(config)
        self.layer_norm2 = _norm(config)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        *,
        is_causal: bool = False,
        pick: Pick | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """All tokens, or the one that ``pick`` selects, which attends to where ``mask`` is true."""
        normal = self.layer_norm1(x)
        queries = normal if pick is None else pick(normal)
        mixed = functional.scaled_dot_product_attention(
            self.by_head(self.self_attn.q_proj(queries)),
            self.by_head(self.self_attn.k_proj(normal)),
            self.by_head(self.self_attn.v_proj(normal)),
            attn_mask=mask,
            is_causal=is_causal,
        )
        x = x if pick is None else pick(x)
        x = x + self.self_attn.out_proj(mixed.transpose(1, 2).flatten(2))
        return x + self.feed_forward(x)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The MLP of the normalised states, without its residual connection."""
        hidden = self.mlp.fc1(self.layer_norm2(x))
        if self.activation == "quick_gelu":
            hidden = hidden * torch.sigmoid(QUICK_GELU_SLOPE * hidden)
        else:
            hidden = functional.gelu(hidden)
        states: Tensor = self.mlp.fc2(hidden)
        return states

    def by_head(self, flat: Tensor) -> Tensor:
        """``(n, token, width)`` to ``(n, head, token, channel)``."""
        return flat.reshape(*flat.shape[:2], self.heads, -1).transpose(1, 2)


class Attention(nn.Module):
    """The four linear layers of attention."""

    def __init__(self, config: TowerConfig) -> None:
        """Create the modules."""
        super().__init__()
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)


class MLP(nn.Module):
    """The two linear layers of the MLP."""

    def __init__(self, config: TowerConfig) -> None:
        """Create the modules."""
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_width)
        self.fc2 = nn.Linear(config.mlp_width, config.width)


def cut_patches(pixels: Tensor, config: VisionConfig) -> Tensor:
    """Pixels ``(n, h, w, 3)`` to patches ``(n, patch, pixel)``, with channels last."""
    patch, side = config.patch_px, config.image_px // config.patch_px
    grid = pixels.reshape(-1, side, patch, side, patch, 3).transpose(2, 3)
    return grid.reshape(-1, side * side, patch * patch * 3)


def _groups(order: Tensor) -> Iterator[Tensor]:
    """Split rows, sorted by length, into groups; their number depends on the batch size only."""
    n_groups = max(1, min(TEXT_GROUPS, len(order) // MIN_TEXTS_PER_GROUP))
    yield from torch.tensor_split(order, n_groups)


def _norm(config: TowerConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=config.layer_norm_eps)
