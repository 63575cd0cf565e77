"""How numbers, dates and findings are written, the same in HTML, Markdown and comparisons."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from fashionclip.evaluate.results import Figure, Kind, Run, TaskResult
from fashionclip.metrics import METRICS

KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        "zero-shot": "Zero-shot classification: pictures sorted by the names of the classes alone",
        "retrieval": "Text-to-image retrieval: pictures found by words",
        "picture-to-picture": "Image-to-image retrieval: pictures found by a picture",
        "probe": "Linear probe: classes learned by a linear classifier on the model's vectors",
        "wrong-attribute": "The right caption against the same caption with one word changed",
        "behavioural-probe": "Behavioural probe: one ability of the model, tested by itself",
        "audit": "Audit: how the model treats groups of products, pictures and queries",
    }
)
"""What each kind of task measures."""


def number(value: float | None) -> str:
    """Three decimals, such as ``0.734``; a dash for what could not be measured."""
    return "—" if value is None or math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Three decimals with a sign: ``+0.012``, ``-0.004``."""
    return number(value) if math.isnan(value) else f"{value:+.3f}"


def share(value: float | None) -> str:
    """A share in per cent: ``6.4 %``."""
    return "—" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def interval(figure: Figure) -> str:
    """The 95 % interval: ``0.725 to 0.743``."""
    return f"{number(figure.low)} to {number(figure.high)}"


def count(n: int) -> str:
    """A number with separated thousands: ``10,000``."""
    return f"{n:,}"


def day_of(created: str) -> str:
    """An ISO time as ``23 November 2026, 18:40 UTC``; any other text as it is."""
    try:
        time = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def duration(seconds: float) -> str:
    """A time as ``4.2 s`` or ``3 min 12 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def chance_of(result: TaskResult, metric: str) -> float | None:
    """What chance gives: a random ranking, or always the commonest label; None if not known."""
    for key in ("random", "chance"):
        if metric in result.details.get(key, {}):
            return float(result.details[key][metric])
    base = metric.partition("@")[0]
    chance = METRICS[base].chance if base in METRICS else None
    return chance if isinstance(chance, float) else None


def tasks_of(run: Run) -> list[str]:
    """The names of all tasks that any model was measured on, in order."""
    return list(dict.fromkeys(r.task for results in run.results.values() for r in results))


def results_on(run: Run, task: str) -> list[tuple[str, TaskResult]]:
    """Model name and result, for each model that was measured on a task."""
    return [(m, r) for m, results in run.results.items() for r in results if r.task == task]


def by_text(
    results: Sequence[tuple[str, TaskResult]], texts: Callable[[TaskResult], Sequence[str]]
) -> dict[str, str]:
    """Each text once, with the names of the models it concerns; empty if it concerns all."""
    models: dict[str, list[str]] = {}
    for model, result in results:
        for text in texts(result):
            models.setdefault(text, []).append(model)
    return {t: ", ".join(m) if len(m) < len(results) else "" for t, m in models.items()}


def seen_sentence(result: TaskResult, trained_on: str) -> str:
    """What the leakage check found for one model on one task.

    Args:
        result: of the model.
        trained_on: the training data that was compared, in words; empty if nothing is known.
    """
    unit = "queries" if result.kind in {"retrieval", "picture-to-picture"} else "pictures"
    unit = "items" if result.kind in {"behavioural-probe", "audit"} else unit
    if not trained_on and not result.n_seen:
        return f"The model's training data is not known: it may contain these {unit}."
    source = f" ({trained_on})" if trained_on else ""
    n_seen = count(result.n_seen) if result.n_seen else "None"
    return f"{n_seen} of the {count(result.n)} {unit} are in its training data{source}."


def choice_sentence(prompts: Mapping[str, Any]) -> str:
    """How the style of a zero-shot task's prompts was chosen, and how much it matters.

    Args:
        prompts: ``details["prompts"]`` of its result.
    """
    chosen = f"The style {prompts['chosen']}"
    if prompts["by"] == "development":
        n = count(prompts["n_development"])
        how = (
            f"{chosen} was chosen on {n} development pictures ({prompts['development']}), before "
            "any test picture was scored."
        )
    elif prompts["by"] == "given":
        how = f"{chosen} was given by the user."
    else:
        how = f"{chosen} is the default: there are no development pictures to choose on."
    values = [f1["test"].value for f1 in prompts["styles"].values()]
    if len(values) < 2:
        return how
    spread = number(max(values) - min(values))
    return f"{how} The best and the worst style differ by {spread} on the test pictures."
