"""Frozen models that a run learns likenesses from, or stays near to."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fashionclip.checkpoint import Checkpoint, open_checkpoint
from fashionclip.engines.towers import Towers
from fashionclip.errors import TrainingError
from fashionclip.train import losses
from fashionclip.train.loader import Share
from fashionclip.train.passes import Inputs, Passes, make_passes, sides_of
from fashionclip.train.recipe import Recipe
from fashionclip.train.towers import open_towers

AT_ONCE = 128
"""Pairs of one pass: a teacher keeps nothing for a backward pass."""
START = "start"


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A frozen model, and how much it counts."""

    towers: Towers
    passes: Passes
    distill: float
    """Weight of learning its likenesses."""
    anchor: float
    """Weight of staying near its vectors."""

    def sides(self, inputs: Inputs, share: Share) -> losses.Sides:
        """Its vectors of a batch, on this process and on all."""
        size = self.towers.config.vision.image_px
        with torch.no_grad():
            found = [
                self.passes.vectors(self.towers, _resized(inputs.part(slice(i, i + AT_ONCE)), size))
                for i in range(0, len(inputs), AT_ONCE)
            ]
            pictures, texts = (torch.cat(side) for side in zip(*found, strict=True))
            return sides_of(pictures, texts, share)

    def loss(
        self, sides: losses.Sides, aim: losses.Sides, temperature: losses.Temperature
    ) -> Tensor:
        """What its weights come to for a batch, mean over own rows."""
        total = sides.pictures.new_zeros(())
        if self.distill:
            scale = torch.tensor(self.towers.config.logit_scale, device=total.device).exp()
            mine = temperature.logit_scale.exp()
            total = total + self.distill * losses.distillation(sides, mine, aim, scale)
        if self.anchor:
            total = total + self.anchor * losses.drift(sides, aim)
        return total


def open_teachers(
    recipe: Recipe, start: Checkpoint, device: torch.device, precision: str
) -> Sequence[Teacher]:
    """Open the frozen models that a recipe names; each once.

    Raises:
        TrainingError: a teacher reads other tokens than the start.
        CheckpointError: it cannot be opened.
    """
    loss = recipe.loss
    wanted: dict[str, dict[str, float]] = {}
    if loss.distill:
        wanted.setdefault(loss.teacher, {})["distill"] = loss.distill
    if loss.anchor:
        wanted.setdefault(START, {})["anchor"] = loss.anchor
    teachers = []
    for name, weights in wanted.items():
        checkpoint = start if name == START else open_checkpoint(name)
        if checkpoint.tokenizer.rules.get_vocab() != start.tokenizer.rules.get_vocab():
            message = f"loss.teacher: {name} has another vocabulary than {start.name}; choose one "
            message += "with the same tokenizer"
            raise TrainingError(message)
        towers = open_towers(checkpoint, device).requires_grad_(requires_grad=False)
        passes = make_passes(checkpoint, device, precision)
        counts = {"distill": 0.0, "anchor": 0.0, **weights}
        teachers.append(Teacher(towers, passes, counts["distill"], counts["anchor"]))
    return teachers


def _resized(inputs: Inputs, size: int) -> Inputs:
    """The same pictures at the teacher's size, all patches of them."""
    pixels = inputs.pixels
    if pixels.shape[1] != size:
        floats = pixels.permute(0, 3, 1, 2).float()
        resized = functional.interpolate(floats, size, mode="bicubic", antialias=True)
        pixels = resized.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return Inputs(pixels, inputs.tokens, inputs.ends, None)
