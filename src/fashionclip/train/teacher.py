"""Teachers for distillation and the anchor loss: frozen models whose vectors the loss uses."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from fashionclip.checkpoint import Checkpoint, open_checkpoint
from fashionclip.engines.towers import Towers
from fashionclip.errors import TrainingError
from fashionclip.train.distributed import ProcessGroup
from fashionclip.train.loss import Features, Temperature, gather_features
from fashionclip.train.model import Forward, Inputs, load_towers, make_forward
from fashionclip.train.recipe import LossConfig

PAIRS_PER_PASS = 128
"""A teacher needs no backward pass, so its chunks can be larger than the student's."""
START = "start"


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A frozen model."""

    towers: Towers
    forward: Forward
    temperature: Temperature

    def features(self, inputs: Inputs, group: ProcessGroup) -> Features:
        """Its vectors of a batch, of this process and of all."""
        size = self.towers.config.vision.image_px
        with torch.no_grad():
            parts = [
                self.forward.encode(self.towers, _resized(inputs[i : i + PAIRS_PER_PASS], size))
                for i in range(0, len(inputs), PAIRS_PER_PASS)
            ]
            images, texts = (torch.cat(side) for side in zip(*parts, strict=True))
            return gather_features(images, texts, self.temperature, group)


def open_teachers(
    config: LossConfig, start: Checkpoint, device: torch.device, precision: str
) -> dict[str, Teacher]:
    """Open the frozen models that a recipe's loss needs, by the term that uses them.

    Raises:
        TrainingError: a teacher has another vocabulary than the start.
        CheckpointError: it cannot be opened.
    """
    names = {}
    if config.distill:
        names["distill"] = config.teacher
    if config.anchor:
        names["anchor"] = START
    opened: dict[str, Teacher] = {}
    for name in set(names.values()):
        checkpoint = start if name == START else open_checkpoint(name)
        if checkpoint.tokenizer.rules.get_vocab() != start.tokenizer.rules.get_vocab():
            message = (
                f"loss.teacher: {name} has another vocabulary than {start.name}; choose one with "
                "the same tokenizer"
            )
            raise TrainingError(message)
        towers = load_towers(checkpoint, device).requires_grad_(requires_grad=False)
        temperature = Temperature(checkpoint.config.logit_scale, has_bias=False).to(device)
        opened[name] = Teacher(towers, make_forward(checkpoint, device, precision), temperature)
    return {term: opened[name] for term, name in names.items()}


def teacher_features(
    teachers: Mapping[str, Teacher], inputs: Inputs, group: ProcessGroup
) -> dict[str, Features]:
    """The vectors of every teacher; a teacher of two terms encodes the batch once."""
    found = {teacher: teacher.features(inputs, group) for teacher in set(teachers.values())}
    return {term: found[teacher] for term, teacher in teachers.items()}


def _resized(inputs: Inputs, size: int) -> Inputs:
    """The same images at the teacher's size, with all their patches."""
    pixels = inputs.pixels
    if pixels.shape[1] != size:
        floats = pixels.permute(0, 3, 1, 2).float()
        resized = functional.interpolate(floats, size, mode="bicubic", antialias=True)
        pixels = resized.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return Inputs(pixels, inputs.tokens, inputs.ends, None)
