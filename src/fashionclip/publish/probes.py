"""What the evaluation found that a user should beware of, as sentences with their figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fashionclip.evaluate.report.wording import number, share, signed
from fashionclip.evaluate.results import TaskResult
from fashionclip.metrics import title_of
from fashionclip.publish.facts import RunFacts

FEWEST_OF_A_CLASS = 10
"""Pictures that a class must have to be called weak."""
N_WEAK = 3


def limitations(facts: RunFacts) -> list[str]:
    """Measured limits, the gravest first: one sentence each, in Markdown."""
    found = list(_worse_than_the_start(facts))
    for result in facts.results:
        found += _weak_classes(result)
        found += _wording(result)
        found += _wrong_words(result)
    found += _seen(facts.results)
    return found


def _worse_than_the_start(facts: RunFacts) -> Iterator[str]:
    if facts.comparison is None:
        return
    for row in facts.comparison.rows:
        if row.is_headline and not row.unseen and row.verdict == "worse" and row.difference:
            yield (
                f"On `{row.task}` it is worse than the model it was tuned from, beyond the noise: "
                f"{title_of(row.metric)} {number(row.old)} became {number(row.new)} "
                f"({signed(row.difference.value)}, n = {row.n:,})."
            )


def _weak_classes(result: TaskResult) -> Iterator[str]:
    rows: Sequence[Mapping[str, Any]] = result.details.get("per_class", ())
    usual = [row for row in rows if row["f1"].n >= FEWEST_OF_A_CLASS]
    weak = sorted(usual, key=lambda row: row["f1"].value)[:N_WEAK]
    if len(usual) > N_WEAK and weak:
        words = ", ".join(f"{row['name']} ({number(row['f1'].value)})" for row in weak)
        yield f"Weakest on `{result.task}`, by F1: {words}."


def _wording(result: TaskResult) -> Iterator[str]:
    changes: Mapping[str, Any] = result.details.get("prompts", {}).get("changes", {})
    if changes:
        flips = {change: float(made["flips"].value) for change, made in changes.items()}
        worst = max(flips, key=lambda change: flips[change])
        yield (
            f"Words matter on `{result.task}`: changing the labels by '{worst}' flips "
            f"{share(flips[worst])} of the labels."
        )


def _wrong_words(result: TaskResult) -> Iterator[str]:
    if result.kind == "wrong-attribute" and (figure := result.figures.get("win_rate")):
        attribute = result.details.get("attribute", "word")
        yield (
            f"Given a caption with the wrong {attribute} (`{result.task}`), it prefers the right "
            f"one {share(figure.value)} of the time; chance is 50 %."
        )


def _seen(results: Sequence[TaskResult]) -> Iterator[str]:
    seen = [result for result in results if result.n_seen]
    if seen:
        words = ", ".join(f"`{r.task}` ({r.n_seen:,} of {r.n:,})" for r in seen)
        yield f"Some test pictures or queries are among what it was trained on: {words}."
