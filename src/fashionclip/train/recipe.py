"""``Recipe``: everything a training run is asked to do, key by key, each with its range.

A recipe is a TOML file of nine groups; what it leaves out has the default given here. The
command line offers every key as a flag, made from the same table. Importing this room loads
nothing heavy.
"""

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from fashionclip.errors import TrainingError
from fashionclip.train.values import checked, nearest, toml

SHIPPED = ("recommended", "fashionclip-1", "fashionclip-2", "builtin")
"""Recipes that come with the package; ``read_recipe`` takes their names."""


def _key(
    default: Any,  # noqa: ANN401 - the key's own type, said beside it
    meaning: str,
    *,
    low: int | float = -math.inf,
    high: int | float = math.inf,
    one_of: Sequence[str] = (),
) -> Any:  # noqa: ANN401
    """A key of a recipe: its default, what it means, and what it may be (both ends included)."""
    limits = {"meaning": meaning, "low": low, "high": high, "one_of": tuple(one_of)}
    return field(default=default, metadata=limits)


def _share(default: float, meaning: str) -> Any:  # noqa: ANN401
    return _key(default, meaning, low=0.0, high=1.0)


@dataclass(frozen=True, slots=True)
class Data:
    """What is learned from."""

    catalog: str = _key("", "Table, folder, URL, or WebDataset tars (shards-{000..009}.tar).")
    images: str = _key("", "Folder or URL that picture names are relative to.")
    columns: tuple[str, ...] = _key((), "Columns of unusual names, as ROLE=NAME.")
    brand: str = _key("", "Column that is held out by; the usual one if empty.")
    product: str = _key("", "Column that rows of one product share, if there is one.")
    attributes: tuple[str, ...] = _key((), "Columns that soft targets are made of.")
    development: float = _share(0.08, "Share of brands held out to choose a checkpoint by.")
    test: float = _share(0.08, "Share of brands held out to judge the choice.")
    seed: int = _key(0, "Decides which brands are held out.", low=0)
    rows: int = _key(0, "Rows to read; 0 for all.", low=0)
    workers: int = _key(0, "Threads that decode pictures; 0 for as many as there are cores.", low=0)
    cache_gb: float = _key(4.0, "Memory for decoded pictures, a process.", low=0.0)
    allow_private: bool = _key(False, "Fetch from addresses inside this network too.")


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained, and how it is computed."""

    start: str = _key("builtin", "Folder or hub repository to start from.")
    activation: str = _key(
        "checkpoint",
        "Activation of both towers; checkpoint for what its config.json says.",
        one_of=("checkpoint", "quick_gelu", "gelu"),
    )
    freeze: str = _key("none", "Tower that keeps its weights.", one_of=("none", "vision", "text"))
    lora_rank: int = _key(0, "Rank of LoRA's updates; 0 trains the weights themselves.", low=0)
    lora_alpha: int = _key(16, "What LoRA's updates are scaled by, over the rank.", low=1)
    checkpoint_activations: bool = _key(False, "Compute layers twice instead of keeping them.")
    kept_patches: float = _share(1.0, "Share of a picture's patches that a step looks at.")
    device: str = _key("auto", "cpu, cuda, cuda:1 or mps.")
    precision: str = _key(
        "auto",
        "Numbers of the products; auto is bfloat16 where the hardware has it. float16 is "
        "OpenAI's: weights and gradients rounded to it, Adam in float32.",
        one_of=("auto", "float32", "bfloat16", "float16"),
    )
    parallel: str = _key(
        "ddp", "Under torchrun: a copy in each process, or shards.", one_of=("ddp", "fsdp")
    )


@dataclass(frozen=True, slots=True)
class Loss:
    """What is minimised."""

    kind: str = _key(
        "infonce", "Softmax over the batch, or a sigmoid a pair.", one_of=("infonce", "siglip")
    )
    negatives: str = _key(
        "distinct",
        "distinct: pairs of one caption or product are not each other's negatives; all: they are.",
        one_of=("distinct", "all"),
    )
    scale_max: float = _key(100.0, "Largest factor of the cosines; inf for none.", low=1.0)
    soft_targets: float = _share(0.0, "Share of a target that goes to pairs of like attributes.")
    teacher: str = _key("start", "Frozen model to learn likenesses from: a checkpoint, or start.")
    distill: float = _key(0.0, "Weight of learning the teacher's likenesses.", low=0.0)
    anchor: float = _key(0.0, "Weight of staying near the untouched start's vectors.", low=0.0)


@dataclass(frozen=True, slots=True)
class Optimizer:
    """How weights move."""

    kind: str = _key(
        "adamw",
        "adamw: decay apart from the gradient, matrices only; adam: decay "
        "in the gradient, all weights.",
        one_of=("adamw", "adam"),
    )
    lr: float = _key(1e-5, "Peak learning rate.", low=0.0, high=0.1)
    betas: tuple[float, ...] = _key((0.9, 0.98), "Adam's two decays.", low=0.0, high=0.999999)
    eps: float = _key(1e-6, "Adam's epsilon.", low=0.0, high=0.1)
    weight_decay: float = _key(0.2, "Weight decay.", low=0.0, high=10.0)
    layer_decay: float = _key(
        1.0, "Learning rate of a layer, over that of the next.", low=0.01, high=1.0
    )
    scale_speed: float = _key(1.0, "Learning rate of the temperature, over lr.", low=0.0)
    warmup_steps: int = _key(0, "Steps in which the learning rate rises.", low=0)
    schedule: str = _key("cosine", "What it does after that.", one_of=("cosine", "constant"))
    clip_norm: float = _key(math.inf, "Longest gradient; inf for any.", low=0.0)
    ema: float = _key(
        0.0, "Decay of the weights' moving average; 0 for none.", low=0.0, high=0.999999
    )


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, and what is kept on the way."""

    batch_size: int = _key(256, "Pairs of a step, over all processes.", low=2)
    chunk_size: int = _key(
        0, "Pairs computed at once, with the gradients of the whole batch; 0 for all.", low=0
    )
    epochs: float = _key(4.0, "Passes over the data.", low=0.0)
    steps: int = _key(0, "Steps to stop after; 0 to go by epochs.", low=0)
    checkpoint_every: int = _key(0, "Steps between checkpoints; 0 for one an epoch.", low=0)
    state_every: int = _key(100, "Steps between states that a killed run goes on from.", low=1)
    log_every: int = _key(10, "Steps between lines of the log.", low=1)
    seed: int = _key(0, "Of shuffling, augmentation and new weights.", low=0)


@dataclass(frozen=True, slots=True)
class Augment:
    """What happens to pictures and texts on their way; 0 leaves them as they are."""

    crop: float = _share(0.0, "Most of a side that a crop takes away.")
    flip: float = _share(0.0, "How often pictures are mirrored.")
    grey: float = _share(0.0, "How often they lose their colours.")
    background: float = _share(0.0, "How often a plain background gets another colour.")
    padding: float = _share(0.0, "How often they shrink onto a larger background.")
    low_resolution: float = _share(0.0, "How often they become coarse.")
    highlight_order: bool = _key(False, "Shuffle a caption's highlights.")
    highlight_dropout: float = _share(0.0, "How often each highlight is left out.")
    short_captions: float = _share(0.0, "How often a caption is a few words only.")
    long_captions: float = _share(0.0, "How often a caption is a passage of the description.")


@dataclass(frozen=True, slots=True)
class Selection:
    """How the checkpoint to keep is chosen; only development pictures are looked at."""

    sets: tuple[str, ...] = _key(
        ("sample",), "Benchmarks, or tables of your own, outside the training data."
    )
    folder: str = _key("", "Folder that holds the benchmarks' folders.")
    rule: str = _key("guarded", "How the checkpoint is chosen; docs/training.md has all rules.")
    stop_below: float = _key(
        5.0, "Points (of 100) that the sets' mean may fall below the start's.", low=0.0, high=100.0
    )
    alphas: tuple[float, ...] = _key(
        (0.2, 0.4, 0.6, 0.8), "Shares of tuned weights mixed into the start.", low=0.0, high=1.0
    )
    average: int = _key(3, "Last checkpoints to average; below 2 averages none.", low=0)
    pictures: int = _key(1000, "Development pictures scored, of a task and of pairs.", low=2)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the run costs, for the card."""

    country: str = _key("", "Where it runs, as ISO's three letters: DEU; empty leaves CO2 unsaid.")
    price: float = _key(0.0, "Money an hour of this machine; 0 leaves it unsaid.", low=0.0)
    currency: str = _key("USD", "Of that price.")


@dataclass(frozen=True, slots=True)
class Publish:
    """Where the chosen checkpoint goes, and what its card says."""

    to: str = _key("", "Folder, or hub; the run's own folder published/ if empty.")
    name: str = _key("", "Repository on the hub, as OWNER/MODEL.")
    title: str = _key("", "Heading of the card; the name if empty.")
    license: str = _key("other", "The hub's word for the licence, such as mit.")
    language: str = _key("en", "Language of the texts.")
    datasets: tuple[str, ...] = _key((), "Data sets on the hub that are trained on.")
    private: bool = _key(False, "Make a new repository private.")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run, as it was asked for."""

    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    selection: Selection = Selection()
    cost: Cost = Cost()
    publish: Publish = Publish()


def keys() -> Iterator[tuple[str, Field[Any], Any]]:
    """Every key: its group's name, the field (its metadata says what it may be), its type."""
    for group, kind in get_type_hints(Recipe).items():
        hints = get_type_hints(kind)
        for entry in fields(kind):
            yield group, entry, hints[entry.name]


def read_recipe(
    name: str | Path, overrides: Mapping[tuple[str, str], object] | None = None
) -> Recipe:
    """Read a recipe from a TOML file, or one of ``SHIPPED`` by its name.

    Args:
        name: the file, or the name.
        overrides: values by group and key that win over the file's.

    Raises:
        TrainingError: there is no such file, it is no TOML, a key is unknown, or a value has
            another type, unit or range.
    """
    text, place = _text_of(name)
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


def read_flag(text: str, kind: Any) -> object:  # noqa: ANN401
    """A key's value as the command line gives it; lists have commas between their values.

    What does not fit is handed on as it is, for ``make_recipe`` to say so.
    """
    if kind in {tuple[str, ...], tuple[float, ...]}:
        one: type = str if kind == tuple[str, ...] else float
        return [read_flag(part.strip(), one) for part in text.split(",") if part.strip()]
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return text if kind is str else kind(text)
    except ValueError:
        return text


def make_recipe(raw: Mapping[str, object], *, place: str) -> Recipe:
    """Check tables of values, and make a recipe of them.

    Raises:
        TrainingError: a key is unknown, or a value has another type, unit or range.
    """
    table = {(group, entry.name): (entry, kind) for group, entry, kind in keys()}
    groups: dict[str, dict[str, object]] = {}
    for group, values in raw.items():
        known = list(dict.fromkeys(name for name, _ in table))
        if group not in known:
            elsewhere = [f"[{g}] {k}" for g, k in table if k == group]
            mend = f"it belongs under {elsewhere[0]}" if elsewhere else nearest(group, known)
            message = f"{place}: no group [{group}]; {mend}"
            raise TrainingError(message)
        if not isinstance(values, Mapping):
            message = f"{place}: {group} is a group; write [{group}] and its keys below"
            raise TrainingError(message)
        for key, value in values.items():
            if (group, key) not in table:
                elsewhere = [f"[{g}]" for g, k in table if k == key]
                siblings = [k for g, k in table if g == group]
                mend = f"it belongs to {elsewhere[0]}" if elsewhere else nearest(key, siblings)
                message = f"{place}: [{group}] has no key '{key}'; {mend}"
                raise TrainingError(message)
            entry, kind = table[group, key]
            where = f"{place}: {group}.{key}"
            groups.setdefault(group, {})[key] = checked(value, entry, kind, where)
    recipe = Recipe()
    for group, values in groups.items():
        recipe = replace(recipe, **{group: replace(getattr(recipe, group), **values)})
    _check_together(recipe, place)
    return recipe


def write_recipe(recipe: Recipe) -> str:
    """Write a recipe with every key, so that a later default cannot change what it says."""
    parts = []
    for group, values in asdict(recipe).items():
        lines = [f"{key} = {toml(value)}" for key, value in values.items()]
        parts.append("\n".join([f"[{group}]", *lines]))
    return "\n\n".join(parts) + "\n"


def _check_together(recipe: Recipe, place: str) -> None:
    """Hold keys against each other.

    Raises:
        TrainingError: two of them contradict.
    """
    data, augment, schedule = recipe.data, recipe.augment, recipe.schedule
    wrong = ""
    if data.development + data.test >= 1:
        wrong = "data.development and data.test leave nothing to train on; together below 1"
    elif augment.short_captions + augment.long_captions > 1:
        wrong = "augment.short_captions and augment.long_captions are more than 1 together"
    elif schedule.chunk_size > schedule.batch_size:
        wrong = "schedule.chunk_size is larger than schedule.batch_size"
    elif recipe.loss.soft_targets and not data.attributes:
        wrong = "loss.soft_targets needs data.attributes, such as ['colour', 'category']"
    elif recipe.model.kept_patches == 0:
        wrong = "model.kept_patches is 0; a step must look at some patches"
    elif not schedule.steps and not schedule.epochs:
        wrong = "schedule.epochs and schedule.steps are both 0; there is nothing to do"
    if wrong:
        message = f"{place}: {wrong}"
        raise TrainingError(message)


def _text_of(name: str | Path) -> tuple[str, str]:
    shipped = str(name).removesuffix(".toml")
    path = Path(name)
    try:
        if not path.exists() and shipped in SHIPPED:
            return files("fashionclip").joinpath(f"recipes/{shipped}.toml").read_text(
                "utf-8"
            ), shipped
        return path.read_text(encoding="utf-8"), str(name)
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        message = f"the recipe {name} cannot be read ({why}); the package has {', '.join(SHIPPED)}"
        raise TrainingError(message) from exc
