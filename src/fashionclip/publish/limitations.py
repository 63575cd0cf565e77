"""Audits and probes as the sentences of a model card's section on limitations.

The sections of FashionCLIP's own card are gender, length of queries, and centred pictures on
white; each gets its figures here. What a sentence says depends on the side of chance: of what 95 %
of label swaps gave where labels were swapped, else of where the whole interval is. If a part of the
products was not trained on, theirs decides, unless it cannot be told of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fashionclip.audit.exposure import BY_CHANCE
from fashionclip.evaluate.report.markdown import cell, plain
from fashionclip.evaluate.report.wording import chance_of, number
from fashionclip.evaluate.results import Figure, Run, TaskResult
from fashionclip.metrics import title_of


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said of one metric of one audit."""

    metric: str
    above: str
    below: str
    neither: str
    """Where the interval holds what chance gives."""
    needs_chance: bool = False
    """Whether chance is a level that is measured; else it is 0 where it is not known."""


_GENDER = (
    Sentence(
        "association",
        "Queries that name no gender are nearer to men's products than to women's of the same type",
        "Queries that name no gender are nearer to women's products than to men's of the same type",
        "Queries that name no gender are as near to men's as to women's products of the same type",
    ),
    Sentence(
        "bias@10",
        "Their first 10 hits have more men's products than the shop has of the type",
        "Their first 10 hits have more women's products than the shop has of the type",
        "Their first 10 hits have the shop's own shares of women's and men's products",
    ),
    Sentence(
        "overlap_gap@20",
        "The hits for a garment without a gender are rather those of the garment for men",
        "The hits for a garment without a gender are rather those of the garment for women",
        "The hits for a garment without a gender are no nearer to those for men than for women",
    ),
    Sentence(
        "hit_gap@10",
        "Women's products are found less often by their own titles than men's of the same type",
        "Men's products are found less often by their own titles than women's of the same type",
        "Women's and men's products of a type are found equally often by their titles",
    ),
    Sentence(
        "neutral_title@10",
        "Titles find more products without their word of gender",
        "Titles find fewer products without their word of gender",
        "Titles find as many products without their word of gender",
    ),
)
_LENGTH = (
    Sentence(
        "long_gain@10",
        "Queries of 21 to 60 words find the same products more often than those of 4 to 8",
        "Queries of 21 to 60 words find the same products less often than those of 4 to 8",
        "Queries of 21 to 60 words find the same products as often as those of 4 to 8",
    ),
    Sentence(
        "long_type_gain@10",
        "Long queries show the right kind of garment more often than those of at most 3 words",
        "Long queries show the right kind of garment less often than those of at most 3 words",
        "Long queries show the right kind of garment as often as those of at most 3 words",
    ),
)
_BACKGROUND = (
    Sentence(
        "ground_drop",
        "Another ground than white changes a picture more than another product of its type does",
        "Another ground than white changes a picture, less than another product of its type does",
        "Another ground than white changes a picture as much as another product of its type does",
        needs_chance=True,
    ),
    Sentence(
        "ground_flips",
        "It flips labels of article types",
        "It flips no label of article types",
        "It flips no label of article types",
    ),
    Sentence(
        "ground_hit_change@10",
        "Titles find more products on another ground",
        "Titles find fewer products on another ground",
        "Titles find as many products on another ground",
    ),
    Sentence(
        "place_hit_change@10",
        "Titles find more products that are smaller or not in the middle",
        "Titles find fewer products that are smaller or not in the middle",
        "Titles find as many products that are smaller or not in the middle",
    ),
)
_BRANDS = (
    Sentence(
        "type_change@10",
        "A brand's name beside a garment that it sells shows more of the garment",
        "A brand's name beside a garment that it sells shows less of the garment",
        "A brand's name beside a garment that it sells shows as much of the garment",
    ),
    Sentence(
        "unsold_type_change@10",
        "A brand's name beside a garment that it does not sell shows more of the garment",
        "A brand's name beside a garment that it does not sell shows less of the garment",
        "A brand's name beside a garment that it does not sell shows as much of the garment",
    ),
)
_PRICES = (
    Sentence(
        "max_skew@10",
        "Queries without a price show one third of the prices more than its share and chance",
        "Queries without a price show all thirds of the prices more evenly than chance",
        "Queries without a price show the thirds of the prices as chance does",
    ),
    Sentence(
        "hit_gap@10",
        "Cheap products are found less often by their titles than dear ones of the same type",
        "Dear products are found less often by their titles than cheap ones of the same type",
        "Cheap and dear products of a type are found equally often by their titles",
    ),
)
AUDITED: Mapping[str, tuple[str, tuple[Sentence, ...]]] = MappingProxyType(
    {
        "gender": ("Gender", _GENDER),
        "query-length": ("Long and short queries", _LENGTH),
        "background": ("Centred pictures on white", _BACKGROUND),
        "brands": ("Brands", _BRANDS),
        "prices": ("Prices", _PRICES),
    }
)
"""The last part of an audit's name to its heading and its sentences."""
CARD_AUDITS = ("gender", "query-length", "background")
"""Those that the original card names."""


def measured_limitations(results: Sequence[TaskResult]) -> list[str]:
    """An item of a Markdown list for each audit and probe of one model, audits with sentences."""
    lines = []
    for name, (heading, sentences) in AUDITED.items():
        for result in results:
            is_it = result.kind == "audit" and result.task.rpartition("/")[2] == name
            if is_it and (said := list(_said(result, sentences))):
                parts = "".join(f"\n  - {sentence}" for sentence in said)
                lines.append(f"**{heading}** (`{result.task}`):{parts}")
    if probes := [_probe(result) for result in results if result.kind == "behavioural-probe"]:
        lines.append("".join(["**Probes**:", *(f"\n  - {text}" for text in probes)]))
    measured = {r.task.rpartition("/")[2] for r in results if r.kind == "audit" and r.figures}
    if lacking := [AUDITED[name][0].lower() for name in CARD_AUDITS if name not in measured]:
        lines.append(f"Not measured: {', '.join(lacking)}. `fashionclip audit` measures it.")
    return lines


def selection_sentence(selection: Mapping[str, Any]) -> str:
    """What the rule that chose the checkpoint costs on sets left out, and what the loss would have.

    Args:
        selection: ``selection.json`` of a run; or of many runs the means (``n_runs``, and for each
            rule an ``interval``), as ``benchmarks/selection_evidence.py`` writes them.
    """
    rows = {row["rule"]: row for row in selection.get("left_out", ())}
    own = rows.get(selection.get("rule", ""))
    if own is None:
        return ""
    text = (
        f"**Checkpoint selection.** The rule `{own['rule']}` costs {_mean_cost(own)} points "
        f"on a set left out, {own['worst_cost']:.1f} at worst"
    )
    loss = rows.get("validation-loss")
    if loss is not None and loss is not own:
        text += (
            f"; the lowest loss on held-out pairs would have cost {_mean_cost(loss)}, "
            f"{loss['worst_cost']:.1f} at worst"
        )
    n_sets, n_runs = len(own.get("sets", ())), selection.get("n_runs", 1)
    runs = "one run" if n_runs == 1 else f"{n_runs} runs"
    of = f" Sets: {n_sets}, of {runs}." if n_sets else f" Of {runs}."
    return f"{text}.{of}"


def _mean_cost(row: Mapping[str, Any]) -> str:
    interval = row.get("interval")
    return f"{row['mean_cost']:.1f}" + (" [{:.1f} to {:.1f}]".format(*interval) if interval else "")


def results_of(runs: Sequence[Run], fingerprint: str) -> list[TaskResult]:
    """The results of one model in several runs.

    Args:
        runs: of audits and probes.
        fingerprint: of the model.

    Raises:
        ValueError: a run has not measured the model.
    """
    found: list[TaskResult] = []
    for run in runs:
        names = [model.name for model in run.models if model.fingerprint == fingerprint]
        if not names:
            others = ", ".join(f"{m.name} ({m.fingerprint})" for m in run.models)
            message = f"the run of {run.title.lower()} measured {others}, not {fingerprint}"
            raise ValueError(message)
        found += run.results[names[0]]
    return found


def _said(result: TaskResult, sentences: Sequence[Sentence]) -> Iterator[str]:
    for sentence in sentences:
        figure = result.figures.get(sentence.metric)
        if figure is None:
            continue
        if sentence.needs_chance and chance_of(result, sentence.metric) is None:
            yield f"{title_of(sentence.metric)} {cell(figure)}; what chance gives is not known."
            continue
        unseen = result.unseen.get(sentence.metric)
        chance = _chance(result, sentence.metric, BY_CHANCE)
        verdict = _verdict(sentence, figure, chance)
        if unseen is not None:
            of_unseen = _chance(result, sentence.metric, f"{BY_CHANCE}, unseen only")
            verdict = _with_unseen(verdict, _verdict(sentence, unseen, of_unseen))
        text = verdict or f"As far as this can tell, {_lower(sentence.neither)}"
        level = number(chance.value) if chance.n == 0 else cell(chance, n=chance.n)
        parts = [cell(figure), f"by chance {level}"]
        if result.n_seen:
            parts.insert(1, f"not trained on {cell(unseen) if unseen else '— (too few)'}")
        yield f"{text}: {title_of(sentence.metric)} {'; '.join(parts)}."


def _with_unseen(verdict: str, of_unseen: str) -> str:
    """What is said of products that a model was not trained on, else of all."""
    if verdict and not of_unseen:
        return f"{verdict}, of all products; of those not trained on it cannot be told"
    return of_unseen


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _chance(result: TaskResult, metric: str, heading: str) -> Figure:
    """What chance gives, with its range from label swaps; a range of no width where none were."""
    swapped = result.details.get("groups", {}).get(heading, {}).get(metric)
    if isinstance(swapped, Figure):
        return swapped
    level = chance_of(result, metric) or 0.0
    return Figure(level, level, level, 0)


def _verdict(sentence: Sentence, figure: Figure, chance: Figure) -> str:
    """By label swaps where there were some, else by the interval; empty where it cannot be told."""
    is_swapped = chance.n > 0
    low, high = (figure.value, figure.value) if is_swapped else (figure.low, figure.high)
    if low > chance.high:
        return sentence.above
    return sentence.below if high < chance.low else ""


def _probe(result: TaskResult) -> str:
    figure = result.figures.get(result.headline)
    chance = chance_of(result, result.headline)
    level = "" if chance is None else f"; by chance {number(chance)}"
    return f"`{plain(result.task)}`: {title_of(result.headline)} {cell(figure)}{level}."
