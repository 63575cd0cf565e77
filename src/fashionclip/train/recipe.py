"""``Recipe``: the settings of a training run, in nine groups.

A recipe is a TOML file; keys that it leaves out have the defaults given here. Every key is also an
option of ``fashionclip train``. Unknown keys and values outside their range are errors that name
the key. This module does not load PyTorch.
"""

import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from fashionclip.errors import TrainingError

SHIPPED = ("recommended", "fashionclip-1", "fashionclip-2", "builtin")
"""Recipes that come with the package; ``read_recipe`` takes their names."""
RENAMED = {
    "kept_patches": "patch_keep_ratio",
    "scale_max": "max_scale",
    "scale_speed": "temperature_lr_scale",
    "grey": "grayscale",
    "rows": "max_rows",
    "pictures": "max_images",
}
"""Keys of earlier versions, with their present names."""


def _split_list(value: object) -> object:
    """Split the text of a command line's list at its commas."""
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Decay = Annotated[float, Field(ge=0.0, le=0.999999)]


Texts = Annotated[tuple[str, ...], BeforeValidator(_split_list)]
Sizes = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_split_list)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _key(default: Any, description: str, **limits: Any) -> Any:  # noqa: ANN401 - any key's type
    """A key with its default, its description and its range."""
    return Field(default, description=description, **limits)


class DataConfig(_Group):
    """The training data and its split."""

    catalog: str = _key("", "Table, folder, URL, or WebDataset tars (shards-{000..009}.tar).")
    images: str = _key("", "Folder or URL that image names are relative to.")
    columns: Texts = _key((), "Columns with unusual names, as ROLE=NAME.")
    brand: str = _key("", "Brand column, if its name is unusual; brands are held out whole.")
    product: str = _key("", "Column whose value is the same for all rows of a product.")
    attributes: Texts = _key((), "Columns that soft targets and prompts are computed from.")
    captions: str = _key("", "Column of further captions: a JSON list in each row.")
    soft_labels: str = _key(
        "", "Parquet file of label probabilities: rows as in catalog, columns ATTRIBUTE=VALUE."
    )
    patch_targets: str = _key(
        "", "NumPy file of the patches' targets: (row, patch, channel), rows as in catalog."
    )
    development: Ratio = _key(0.08, "Ratio of brands held out to select a checkpoint.")
    test: Ratio = _key(0.08, "Ratio of brands held out to measure the selected checkpoint.")
    seed: int = _key(0, "Seed of the split.", ge=0)
    max_rows: int = _key(0, "Rows to read; 0 for all.", ge=0)
    workers: int = _key(0, "Threads that decode images; 0 for one per core.", ge=0)
    cache_gb: float = _key(4.0, "Memory for decoded images in GB, per process.", ge=0.0)
    allow_private: bool = _key(False, "Also fetch images from private network addresses.")


class ModelConfig(_Group):
    """The model, and how it is computed."""

    start: str = _key("builtin", "Folder or hub repository of the initial checkpoint.")
    activation: Literal["checkpoint", "quick_gelu", "gelu"] = _key(
        "checkpoint", "Activation of both towers; checkpoint takes it from config.json."
    )
    freeze: Literal["none", "vision", "text"] = _key("none", "Tower that is not trained.")
    lora_rank: int = _key(0, "Rank of LoRA's updates; 0 trains the weights themselves.", ge=0)
    checkpoint_activations: bool = _key(
        False, "Recompute activations in the backward pass instead of storing them."
    )
    patch_keep_ratio: Ratio = _key(1.0, "Ratio of an image's patches that a step encodes.")
    device: str = _key("auto", "cpu, cuda, cuda:1 or mps.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = _key(
        "auto",
        "Precision of matrix products; auto is bfloat16 where the hardware has it. float16 "
        "also rounds weights and gradients, as OpenAI's training did.",
    )
    compile: bool = _key(
        False, "Compile the layers (torch.compile); the first steps take longer for it."
    )
    parallel: Literal["ddp", "fsdp"] = _key(
        "ddp", "Under torchrun: replicate the model (ddp) or shard it (fsdp)."
    )


class LossConfig(_Group):
    """The loss."""

    kind: Literal["infonce", "siglip"] = _key(
        "infonce", "Softmax over the batch, or a sigmoid per pair."
    )
    negatives: Literal["distinct", "all"] = _key(
        "distinct",
        "distinct: pairs of the same product or caption are not negatives of each other; "
        "all: they are.",
    )
    max_scale: float = _key(100.0, "Upper bound of the logit scale; inf for none.", ge=1.0)
    prefixes: Sizes = _key(
        (),
        "Lengths, such as [64, 128]: the loss is averaged over the whole vectors and those of "
        "their first numbers.",
    )
    soft_targets: Ratio = _key(0.0, "Ratio of each target given to pairs with like attributes.")
    teacher: str = _key("start", "Frozen model to distill from: a checkpoint, or start.")
    distill: float = _key(0.0, "Weight of distillation from the teacher.", ge=0.0)
    anchor: float = _key(0.0, "Weight of the anchor loss: distance to the start's vectors.", ge=0.0)
    prompts: float = _key(0.0, "Weight of zero-shot classification by attributes.", ge=0.0)
    always_prompted: Texts = _key(
        (), "Attributes that prompts name in every step; the others take turns."
    )
    logit_adjustment: Ratio = _key(
        1.0,
        "Strength at which prompts are adjusted by how common a value is; below 1 the texts of "
        "common values win close calls.",
    )
    hard_negatives: float = _key(
        0.0, "Weight of an image's own caption against the same with one word changed.", ge=0.0
    )
    changed: Texts = _key(
        (), "Attributes whose values hard negatives change, such as ['colour', 'neckline']."
    )
    patches: float = _key(0.0, "Weight of the regression of data.patch_targets.", ge=0.0)


class OptimizerConfig(_Group):
    """The optimizer and its learning rate."""

    kind: Literal["adamw", "adam"] = _key(
        "adamw",
        "adamw: decoupled weight decay, on matrices only; adam: decay inside the gradient, on "
        "all weights.",
    )
    lr: float = _key(1e-5, "Peak learning rate.", ge=0.0, le=0.1)
    betas: Annotated[tuple[Decay, Decay], BeforeValidator(_split_list)] = _key(
        (0.9, 0.98), "Adam's decay rates."
    )
    eps: float = _key(1e-6, "Adam's epsilon.", ge=0.0, le=0.1)
    weight_decay: float = _key(0.2, "Weight decay.", ge=0.0, le=10.0)
    layer_decay: float = _key(
        1.0, "Ratio of a layer's learning rate to that of the next layer.", ge=0.01, le=1.0
    )
    vision_lr_scale: float = _key(
        1.0, "Ratio of the image tower's rate, without its projection, to lr.", ge=0.0
    )
    temperature_lr_scale: float = _key(1.0, "Ratio of the temperature's rate to lr.", ge=0.0)
    warmup_steps: int = _key(0, "Steps of linear warm-up.", ge=0)
    schedule: Literal["cosine", "constant"] = _key("cosine", "Learning rate after the warm-up.")
    clip_norm: float = _key(math.inf, "Maximum norm of the gradient; inf for none.", ge=0.0)
    ema: Decay = _key(0.0, "Decay of the weights' moving average; 0 for none.")


class ScheduleConfig(_Group):
    """The length of the run, and what is written during it."""

    batch_size: int = _key(256, "Pairs per step, over all processes.", ge=2)
    chunk_size: int = _key(
        0, "Pairs computed at once, with the gradients of the whole batch; 0 for all.", ge=0
    )
    epochs: float = _key(4.0, "Passes over the data.", ge=0.0)
    steps: int = _key(0, "Number of steps; 0 to go by epochs.", ge=0)
    checkpoint_every: int = _key(0, "Steps between checkpoints; 0 for one per epoch.", ge=0)
    state_every: int = _key(100, "Steps between saved states, which a killed run resumes.", ge=1)
    log_every: int = _key(10, "Steps between lines of the log.", ge=1)
    seed: int = _key(0, "Seed of shuffling, augmentation and new weights.", ge=0)


class AugmentConfig(_Group):
    """Augmentation of images and captions; 0 turns each off."""

    crop: Ratio = _key(0.0, "Maximum ratio of a side that a crop removes.")
    flip: Ratio = _key(0.0, "Probability of mirroring an image.")
    grayscale: Ratio = _key(
        0.0, "Probability of converting an image to grayscale; its caption then names no color."
    )
    negative: Ratio = _key(
        0.0, "Probability of inverting an image that is grayscale: light on a dark background."
    )
    background: Ratio = _key(0.0, "Probability of recoloring a plain background.")
    padding: Ratio = _key(0.0, "Probability of shrinking an image onto a larger background.")
    low_resolution: Ratio = _key(0.0, "Probability of reducing an image's resolution.")
    highlight_order: bool = _key(False, "Shuffle a caption's highlights.")
    highlight_dropout: Ratio = _key(0.0, "Probability of dropping each highlight.")
    short_captions: Ratio = _key(0.0, "Probability of a caption of a few words.")
    long_captions: Ratio = _key(0.0, "Probability of a passage of the description.")
    further_captions: Ratio = _key(0.0, "Probability of a caption of data.captions.")
    mix: Ratio = _key(0.0, "Probability of pasting a part of another image of the batch (CutMix).")


class SelectionConfig(_Group):
    """How a checkpoint is selected, on development images only."""

    sets: Texts = _key(("sample",), "Benchmarks, or tables of your own, outside the training data.")
    folder: str = _key("", "Folder that holds the benchmarks' folders.")
    rule: Literal[
        "start",
        "last",
        "validation-loss",
        "retrieval",
        "average",
        "out-of-domain",
        "both",
        "guarded",
    ] = _key("guarded", "Selection rule, as docs/selection.md describes them.")
    stop_below: float = _key(
        5.0, "Points (of 100) that the sets' mean may fall below the start's.", ge=0.0, le=100.0
    )
    alphas: Annotated[tuple[Ratio, ...], BeforeValidator(_split_list)] = _key(
        (0.2, 0.4, 0.6, 0.8), "Interpolation coefficients between start and tuned weights."
    )
    average: int = _key(3, "Last checkpoints to average; below 2 averages none.", ge=0)
    max_images: int = _key(1000, "Development images scored per task.", ge=2)


class CostConfig(_Group):
    """What ``cost.json`` and the model card state about the run."""

    country: str = _key("", "ISO 3166 code of three letters, such as DEU; empty omits CO2.")
    price: float = _key(0.0, "Price of this machine per hour; 0 omits the money.", ge=0.0)
    currency: str = _key("USD", "Currency of the price.")


class PublishConfig(_Group):
    """Where the selected checkpoint is published, and what its card states."""

    to: str = _key("", "Folder, or hub; published/ in the run folder if empty.")
    name: str = _key("", "Repository on the hub, as OWNER/MODEL.")
    title: str = _key("", "Heading of the card; the name if empty.")
    license: str = _key("other", "Licence identifier of the hub, such as mit.")
    language: str = _key("en", "Language of the texts.")
    datasets: Texts = _key((), "Data sets on the hub that the model is trained on.")
    private: bool = _key(False, "Create a new repository as private.")


class Recipe(_Group):
    """The settings of a training run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    augment: AugmentConfig = AugmentConfig()
    selection: SelectionConfig = SelectionConfig()
    cost: CostConfig = CostConfig()
    publish: PublishConfig = PublishConfig()

    @model_validator(mode="after")
    def _check_together(self) -> "Recipe":
        """Refuse keys that contradict each other.

        Raises:
            ValueError: two of them do.
        """
        data, augment, schedule, loss = self.data, self.augment, self.schedule, self.loss
        captions = augment.short_captions + augment.long_captions + augment.further_captions
        example = "data.attributes, such as ['colour', 'category']"
        unknown = {
            key: ", ".join(name for name in getattr(loss, key) if name not in data.attributes)
            for key in ("always_prompted", "changed")
        }
        problems = {
            "data.development + data.test must be below 1, to leave pairs to train on": (
                data.development + data.test >= 1
            ),
            "augment.short_captions + augment.long_captions + augment.further_captions must be at "
            "most 1": captions > 1,
            "schedule.chunk_size is larger than schedule.batch_size": (
                schedule.chunk_size > schedule.batch_size
            ),
            f"loss.soft_targets needs {example}": loss.soft_targets and not data.attributes,
            f"loss.prompts needs {example}": loss.prompts and not data.attributes,
            **{
                f"loss.{key} names no attribute of data.attributes: {names}": names
                for key, names in unknown.items()
            },
            "loss.hard_negatives needs loss.changed, attributes of data.attributes": (
                loss.hard_negatives and not loss.changed
            ),
            "loss.patches needs data.patch_targets": loss.patches and not data.patch_targets,
            "loss.patches needs whole batches; set schedule.chunk_size to 0": (
                loss.patches and schedule.chunk_size
            ),
            "model.patch_keep_ratio is 0; a step must encode some patches": (
                self.model.patch_keep_ratio == 0
            ),
            "schedule.epochs and schedule.steps are both 0; set one of them": (
                not schedule.steps and not schedule.epochs
            ),
        }
        for problem, is_so in problems.items():
            if is_so:
                raise ValueError(problem)
        return self


class Key(NamedTuple):
    """One key of a recipe."""

    group: str
    name: str
    default: Any
    description: str
    choices: tuple[str, ...]
    """The allowed values; empty if the type alone decides."""


def recipe_keys() -> Iterator[Key]:
    """Every key, group by group."""
    for group, info in Recipe.model_fields.items():
        for name, key in type(info.default).model_fields.items():
            choices = get_args(key.annotation) if get_origin(key.annotation) is Literal else ()
            yield Key(group, name, key.default, key.description or "", choices)


def read_recipe(
    name: str | Path, overrides: Mapping[tuple[str, str], object] | None = None
) -> Recipe:
    """Read a recipe from a TOML file, or one of ``SHIPPED`` by its name.

    Args:
        name: the file, or the name.
        overrides: values by group and key, which replace those of the file; texts are parsed, and
            lists can be texts with commas between the items.

    Raises:
        TrainingError: the file is missing or not TOML, a key is unknown, or a value has the wrong
            type or lies outside its range.
    """
    text, place = _read_text(name)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        message = f"{place} is not valid TOML ({exc})"
        raise TrainingError(message) from exc
    for (group, key), value in (overrides or {}).items():
        table = raw.setdefault(group, {})
        if isinstance(table, dict):
            table[key] = value
    return make_recipe(raw, place=place)


def make_recipe(raw: Mapping[str, object], *, place: str) -> Recipe:
    """Make a recipe of plain tables.

    Args:
        raw: values by group and key.
        place: the file or name that error messages begin with.

    Raises:
        TrainingError: a key is unknown, or a value has the wrong type or lies outside its range.
    """
    try:
        return Recipe.model_validate(dict(raw))
    except ValidationError as exc:
        message = f"{place}: {_explain(exc.errors()[0])}"
        raise TrainingError(message) from exc


def write_recipe(recipe: Recipe) -> str:
    """Write a recipe as TOML with every key, so that it does not depend on later defaults."""
    parts = []
    for group, values in recipe.model_dump().items():
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        parts.append("\n".join([f"[{group}]", *lines]))
    return "\n\n".join(parts) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read_text(name: str | Path) -> tuple[str, str]:
    """The text of a recipe, and its name in messages.

    Raises:
        TrainingError: the file cannot be read.
    """
    shipped = str(name).removesuffix(".toml")
    path = Path(name)
    try:
        if not path.exists() and shipped in SHIPPED:
            source = files("fashionclip").joinpath(f"recipes/{shipped}.toml")
            return source.read_text("utf-8"), shipped
        return path.read_text(encoding="utf-8"), str(name)
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        message = f"the recipe {name} cannot be read ({why}); the package has {', '.join(SHIPPED)}"
        raise TrainingError(message) from exc


def _explain(error: ErrorDetails) -> str:
    """One of pydantic's errors as a sentence that names the key."""
    kind, value, path = error["type"], error["input"], [str(part) for part in error["loc"]]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    keys = list(recipe_keys())
    if kind == "extra_forbidden":
        *group, name = path
        homes = [f"[{key.group}] {name}" for key in keys if key.name == name]
        known = [key.name for key in keys if [key.group] == group] or list(Recipe.model_fields)
        hint = f"it is {homes[0]}" if homes else _nearest(name, known)
        where = f"[{group[0]}] has no key '{name}'" if group else f"there is no group [{name}]"
        return f"{where}; {hint}"
    if len(path) == 1:
        return f"{path[0]} is a group; write [{path[0]}] and its keys below"
    message = error["msg"][0].lower() + error["msg"][1:]
    if "tuple" in kind or kind == "missing":
        default = next(key.default for key in keys if [key.group, key.name] == path[:2])
        message = f"write a list, such as {_toml(default)}"
    if kind == "less_than_equal" and error["ctx"]["le"] == 1 and value <= 100:
        message += f"; for {value:g} % write {value / 100:g}"
    return f"{'.'.join(path[:2])} is {value!r}; {message}"


def _nearest(name: str, known: Sequence[str]) -> str:
    """The hint for an unknown name: the nearest known one, or all of them."""
    near = [RENAMED[name]] if RENAMED.get(name) in known else get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"use one of: {', '.join(known)}"
