"""How figures, tasks and dates are put in words, alike on the page, in Markdown and verdicts."""

import math
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from fashionclip.evaluate.results import METRICS, Figure, Kind, TaskResult

KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        "zero-shot": "Sorting pictures into classes by their names alone",
        "retrieval": "Finding pictures by words",
        "picture-to-picture": "Finding pictures by a picture",
        "probe": "Learning classes by a linear classifier on the model's vectors",
        "wrong-attribute": "Telling the right caption from one with a word changed",
    }
)
"""What a kind of task asks of a model."""

_TITLES = MappingProxyType(
    {
        "weighted_f1": "Weighted F1",
        "macro_f1": "Macro F1",
        "top_5": "Top 5",
        "mrr": "MRR",
        "map": "MAP",
        "ndcg": "nDCG",
        "hit": "Hit rate",
        "win_rate": "Win rate",
        "beats_all": "Beats all",
        "few_shot": "Few-shot F1",
    }
)


def title_of(metric: str) -> str:
    """A metric's name as people write it: ``Recall@10``."""
    name, _, k = metric.partition("@")
    title = _TITLES.get(name, name.replace("_", " ").capitalize())
    return f"{title}@{k}" if k else title


def meaning_of(metric: str) -> str:
    """A plain sentence on what a metric is; empty for one nobody knows."""
    name, _, k = metric.partition("@")
    if name == "few_shot":
        pictures = "picture" if k == "1" else "pictures"
        return f"Weighted F1 of a classifier that learned from {k} {pictures} a class"
    text = METRICS.get(name, "").replace("first k", f"first {k}" if k else "first k")
    return text[:1].upper() + text[1:]


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
    """A number of things with its thousands apart: ``10,000``."""
    return f"{n:,}"


def unit_of(result: TaskResult) -> str:
    """What a task counts: pictures or queries."""
    return "queries" if result.kind in {"retrieval", "picture-to-picture"} else "pictures"


def day_of(created: str) -> str:
    """An ISO time as people write it: ``23 November 2026, 18:40 UTC``; any other text as it is."""
    try:
        time = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def duration(seconds: float) -> str:
    """A time as people say it: ``4.2 s``, ``3 min 12 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def seen_sentence(result: TaskResult, trained_on: str) -> str:
    """What the leakage check found for one model on one task.

    Args:
        result: of the model.
        trained_on: what the check compared with, in words; empty if nothing is known.
    """
    unit = unit_of(result)
    if not trained_on and not result.n_seen:
        return f"What the model was trained on is not known: it may have seen these {unit}."
    source = f" ({trained_on})" if trained_on else ""
    if not result.n_seen:
        return f"None of the {count(result.n)} {unit} are among what it was trained on{source}."
    return (
        f"{count(result.n_seen)} of the {count(result.n)} {unit} are among what it was trained on"
        f"{source}."
    )


def choice_sentence(prompts: Mapping[str, Any]) -> str:
    """How the style of a zero-shot task's prompts was chosen, and how much hangs on it.

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
    return f"{how} From the best to the worst style is a spread of {spread} on the test pictures."
