"""A run as Markdown: the model card's table first, then every figure with its interval and n."""

import math
from collections.abc import Iterator, Sequence

from fashionclip.evaluate.report.published import (
    CARD,
    CARD_COLUMNS,
    card_measured,
    card_published,
    published_on,
)
from fashionclip.evaluate.report.wording import (
    KINDS,
    by_text,
    chance_of,
    choice_sentence,
    count,
    day_of,
    duration,
    interval,
    number,
    results_on,
    seen_sentence,
    share,
    signed,
    tasks_of,
)
from fashionclip.evaluate.results import Figure, Run, TaskResult
from fashionclip.metrics import explain, title_of


def markdown(run: Run) -> str:
    """Write a run as Markdown: tables with models as rows, published figures marked as such."""
    lines = [
        f"# {plain(run.title)}",
        "",
        f"{day_of(run.created)}, fashionclip {plain(run.version)}. Square brackets are 95 % "
        "bootstrap intervals over pictures or queries.",
        "",
        *_models(run),
        *_card(run),
        *_overview(run),
    ]
    for task in tasks_of(run):
        lines += _task(run, task)
    if run.missing:
        lines += ["## Not measured", ""]
        lines += [f"- **{plain(name)}**: {plain(how)}" for name, how in run.missing.items()]
        lines.append("")
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table: the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def plain(text: str) -> str:
    """Text with the characters escaped that mean something in Markdown."""
    text = " ".join(text.split())
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, "\\" + sign)
    return text


def cell(figure: Figure | None, *, n: int | None = None) -> str:
    """A figure with its interval: ``0.734 [0.725 to 0.743]``, and its n where it is not ``n``."""
    if figure is None or math.isnan(figure.value):
        return "—"
    own = "" if n == figure.n else f", n = {count(figure.n)}"
    return f"{number(figure.value)} [{interval(figure)}]{own}"


def _models(run: Run) -> Iterator[str]:
    rows = [
        [
            *(plain(model.name), plain(model.fingerprint), str(model.dim), plain(model.engine)),
            f"{duration(model.seconds)}, {duration(model.encoding_seconds)} of it encoding",
            plain(model.trained_on) or "not known",
        ]
        for model in run.models
    ]
    yield from table(["Model", "Fingerprint", "Dimensions", "Engine", "Time", "Trained on"], rows)
    yield ""


def _card(run: Run) -> Iterator[str]:
    measured = card_measured(run)
    if not measured:
        return
    rows = []
    for model, results in measured.items():
        figures = [r.figures["weighted_f1"] if r else None for r in results.values()]
        rows.append([plain(model), *map(cell, figures)])
        unseen = [r.unseen.get("weighted_f1") if r else None for r in results.values()]
        if any(unseen):
            rows.append([f"{plain(model)}, unseen only", *map(cell, unseen)])
    for model, values in card_published().items():
        rows.append([f"{plain(model)} †", *(f"{values[column]:.2f}" for column in CARD_COLUMNS)])
    yield "## The model card's table"
    yield ""
    yield "Weighted F1, zero-shot. Rows marked † are published, not measured here."
    yield ""
    yield from table(["Model", *CARD_COLUMNS], rows)
    yield ""
    yield f"† Source: {plain(CARD)}. On its authors' pictures and prompts."
    yield ""


def _overview(run: Run) -> Iterator[str]:
    """Every task's headline; a model has a second column where it has seen some of the data."""
    by_model = {m: {r.task: r for r in results} for m, results in run.results.items()}
    columns = [
        (model, unseen)
        for model, results in by_model.items()
        for unseen in (False, True)
        if not unseen or any(result.unseen for result in results.values())
    ]
    rows = []
    for task in tasks_of(run):
        headline = results_on(run, task)[0][1].headline
        cells = []
        for model, unseen in columns:
            result = by_model[model].get(task)
            figures = {} if result is None else result.unseen if unseen else result.figures
            cells.append(cell(figures.get(headline)))
        rows.append([plain(task), title_of(headline), *cells])
    if not rows:
        return
    names = [
        f"{plain(model)}, unseen only" if unseen else plain(model) for model, unseen in columns
    ]
    yield "## All tasks"
    yield ""
    yield from table(["Task", "Figure", *names], rows)
    yield ""


def _task(run: Run, task: str) -> Iterator[str]:
    results = results_on(run, task)
    metrics = list(dict.fromkeys(metric for _, result in results for metric in result.figures))
    published = published_on(task)
    yield f"## {plain(task)}"
    yield ""
    yield f"{KINDS[results[0][1].kind]}."
    yield ""
    rows = []
    for model, result in results:
        figures = [cell(result.figures.get(metric), n=result.n) for metric in metrics]
        rows.append([plain(model), count(result.n), *figures])
        if result.unseen:
            n = result.n - result.n_seen
            unseen = [cell(result.unseen.get(metric), n=n) for metric in metrics]
            rows.append([f"{plain(model)}, unseen only", count(n), *unseen])
    chance = [chance_of(results[0][1], metric) for metric in metrics]
    if any(value is not None for value in chance):
        rows.append(["by chance", "—", *map(number, chance)])
    for model in dict.fromkeys(row.model for row in published):
        by_metric = {row.metric: row.value for row in published if row.model == model}
        values = [str(by_metric.get(m, "—")) for m in metrics]  # as precise as they were
        rows.append([f"{plain(model)} †", "—", *values])
    yield from table(["Model", "n", *map(title_of, metrics)], rows)
    yield ""
    for source in dict.fromkeys(row.source for row in published):
        yield f"† Published, not measured here: {plain(source)}."
        yield ""
    yield from (f"- {title_of(m)}: {explain(m)}." for m in metrics if explain(m))
    yield from _remarks(run, results)
    yield ""
    for model, result in results:
        yield from _groups(model, result)


def _groups(model: str, result: TaskResult) -> Iterator[str]:
    """A table for each heading of a probe's or an audit's groups."""
    for heading, figures in result.details.get("groups", {}).items():
        rows = [
            [plain(name), cell(figure, n=figure.n), count(figure.n)]
            for name, figure in figures.items()
        ]
        yield f"{plain(model)}, {plain(heading[:1].lower() + heading[1:])}:"
        yield ""
        yield from table(["", "Value", "n"], rows)
        yield ""


def _remarks(run: Run, results: Sequence[tuple[str, TaskResult]]) -> Iterator[str]:
    trained_on = {model.name: model.trained_on for model in run.models}
    for text, models in by_text(results, lambda result: result.notes).items():
        yield f"- {plain(f'{models}: {text}' if models else text)}"
    for model, result in results:
        yield f"- {plain(model)}: {plain(seen_sentence(result, trained_on.get(model, '')))}"
    for model, result in results:
        for text in _prompts(result):
            yield f"- {plain(model)}: {text}"
    for text, models in by_text(results, lambda result: result.warnings).items():
        yield f"- **Warning**: {plain(f'{models}: {text}' if models else text)}"


def _prompts(result: TaskResult) -> Iterator[str]:
    """The prompts of a zero-shot task: the choice, the styles, small changes."""
    prompts = result.details.get("prompts")
    if not prompts:
        return
    yield choice_sentence(prompts)
    n = result.n
    styles = ", ".join(
        f"{style} {cell(f1['test'], n=n)}" for style, f1 in prompts["styles"].items()
    )
    yield f"Weighted F1 by style: {styles}; n = {count(n)}."
    for change, made in prompts["changes"].items():
        flips, accuracy = made["flips"], made["accuracy"]
        yield (
            f"With a {change}, {share(flips.value)} [{share(flips.low)} to {share(flips.high)}] of "
            f"the labels flip; accuracy changes by {signed(accuracy.value)} "
            f"[{signed(accuracy.low)} to {signed(accuracy.high)}]."
        )
