"""The report of a selection: ``selection.json``, ``selection.md`` and ``selection.svg``."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fashionclip.errors import MissingExtraError
from fashionclip.evaluate.report.markdown import table
from fashionclip.train.run import RunFolder
from fashionclip.train.selection.rules import POINTS, RULES, RuleRow, Scored
from fashionclip.train.selection.select import Choice
from fashionclip.train.selection.suite import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES = (12.0, 4.4)
_STYLE: Any = {
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": "fashionclip",  # the same figures, the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
}
_INSIDE, _OUTSIDE, _SETS = "#0b6e99", "#b3441e", "#8a8a8a"
_MARKERS = ("o", "s", "^", "D", "v", "P")


def write_choice(choice: Choice, run: RunFolder) -> None:
    """Write the three files into the run folder.

    Raises:
        TrainingError: the folder cannot be written.
        MissingExtraError: matplotlib is not installed; the other two files are there.
    """
    run.write(run.root / "selection.json", json.dumps(choice_fields(choice), indent=2))
    run.write(run.root / "selection.md", choice_markdown(choice))
    run.write(run.root / "selection.svg", plot_curves(choice.candidates, choice.chosen))


def choice_fields(choice: Choice) -> dict[str, Any]:
    """The choice as plain values."""
    return {
        "rule": choice.rule,
        "rule_in_words": RULES[choice.rule].description,
        "chosen": choice.chosen.candidate.name,
        "candidates": [
            {
                "name": scored.candidate.name,
                "kind": scored.candidate.kind,
                "step": scored.candidate.step,
                "weights": [
                    {"folder": part.folder.name, "share": share}
                    for part, share in scored.candidate.parts
                ],
                **scored.scores.fields(),
            }
            for scored in choice.candidates
        ],
        "left_out": [_row_fields(row) for row in choice.table],
        "notes": list(choice.notes),
    }


def _row_fields(row: RuleRow) -> dict[str, Any]:
    means = ("mean_cost", "worst_cost", "worst_against_start")
    return {
        **asdict(row),
        **{name: getattr(row, name) for name in means},
        "rule_in_words": RULES[row.rule].description,
    }


def choice_markdown(choice: Choice) -> str:
    """The choice as Markdown: the selected candidate, all candidates, and the table of rules."""
    chosen, start = choice.chosen, choice.start
    lines = [
        "# Selected checkpoint",
        "",
        f"**{chosen.candidate.name}**, by the rule `{choice.rule}`: "
        f"{RULES[choice.rule].description}.",
        "",
        f"Held-out retrieval {_against(chosen.scores.in_domain, start.in_domain)}, mean of the "
        f"sets {_against(chosen.scores.out_of_domain, start.out_of_domain)} against the start.",
        "",
        "Only development images were used. The half widths of the 95 % intervals are about "
        f"{_widths(start)} points; smaller differences may be chance.",
        "",
        "![Curves](selection.svg)",
        "",
        "## Candidates",
        "",
        *_candidates_table(choice),
        "",
        "## What each rule would have cost on a set left out",
        "",
        *left_out_table(choice),
        "",
        "Each rule selected by the other sets. Its cost is the distance to the best candidate on "
        "the set left out, in points of F1. *Against the start* is the lowest difference over the "
        "sets left out. The last two columns are of the choice by all sets: points of held-out "
        "recall@10 above the start, and below the best candidate. The best of many candidates is "
        "partly luck, so no rule reaches a cost of 0.",
    ]
    if choice.notes:
        lines += ["", "## Notes", "", *(f"- {note}." for note in choice.notes)]
    return "\n".join(lines) + "\n"


def left_out_table(choice: Choice) -> list[str]:
    """The leave-one-set-out table as Markdown."""
    sets = list(choice.start.sets)
    head = ["rule", "by all sets", *(f"cost on {name}" for name in sets)]
    head += ["mean", "worst", "against the start", "in domain", "its cost"]
    rows = []
    for row in choice.table:
        mark = "**" if row.rule == choice.rule else ""
        cells = [f"{mark}{row.rule}{mark}", row.chosen]
        costs = [left.cost for left in row.sets.values()]
        cells += [f"{cost:.1f}" for cost in (*costs, row.mean_cost, row.worst_cost)]
        cells += [f"{row.worst_against_start:+.1f}", f"{row.in_domain_gain:+.1f}"]
        rows.append([*cells, f"{row.in_domain_cost:.1f}"])
    return table(head, rows)


def _candidates_table(choice: Choice) -> list[str]:
    head = ["candidate", "loss", "recall@10", *choice.start.sets, "mean of the sets"]
    rows = []
    for scored in choice.candidates:
        mark, scores = "**" if scored is choice.chosen else "", scored.scores
        points = [scores.in_domain, *scores.sets.values(), scores.out_of_domain]
        name, loss = f"{mark}{scored.candidate.name}{mark}", f"{scores.validation_loss:.3f}"
        rows.append([name, loss, *(f"{POINTS * value:.1f}" for value in points)])
    return table(head, rows)


def _against(value: float, start: float) -> str:
    return f"{POINTS * value:.1f} ({POINTS * (value - start):+.1f})"


def _widths(scores: Scores) -> str:
    parts = [f"{POINTS * width:.1f} ({name})" for name, width in scores.half_widths.items()]
    return ", ".join(parts)


def plot_curves(candidates: Sequence[Scored], chosen: Scored) -> str:
    """Plot a selection as SVG.

    Left: difference from the start over the steps, of held-out retrieval, of each set and of the
    sets' mean. Middle: loss on held-out pairs. Right: held-out retrieval of every candidate against
    its mean over the sets; interpolations are joined by a line.

    Args:
        candidates: the start first.
        chosen: one of them.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as exc:
        message = "plots need matplotlib: pip install 'fashionclip[train]'"
        raise MissingExtraError(message) from exc
    with rc_context(_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 0.8, 1.25))
        run = [s for s in candidates if s.candidate.kind in {"start", "checkpoint"}]
        _plot_points(left, run)
        steps = [s.candidate.step for s in run]
        middle.plot(steps, [s.scores.validation_loss for s in run], "o-", color="#555555", ms=4)
        middle.set(title="Loss on held-out pairs", xlabel="step", ylabel="nats, lower is better")
        _plot_tradeoff(right, candidates, chosen)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": "fashionclip"})
        return file.getvalue()


def _plot_points(axes: "Axes", run: Sequence[Scored]) -> None:
    steps, start = [s.candidate.step for s in run], run[0].scores
    for place, name in enumerate(start.sets):
        values = [POINTS * (s.scores.sets[name] - start.sets[name]) for s in run]
        marker = _MARKERS[place % len(_MARKERS)]
        axes.plot(steps, values, color=_SETS, marker=marker, ms=4, lw=0.8, label=name)
    outside = [POINTS * (s.scores.out_of_domain - start.out_of_domain) for s in run]
    inside = [POINTS * (s.scores.in_domain - start.in_domain) for s in run]
    axes.plot(steps, outside, color=_OUTSIDE, lw=2.2, label="mean of the sets")
    axes.plot(steps, inside, color=_INSIDE, lw=2.2, ls="--", label="held-out retrieval")
    axes.axhline(0, color="black", lw=0.8)
    axes.set(title="Points above the start", xlabel="step")
    axes.legend(fontsize=8, frameon=False)


def _plot_tradeoff(axes: "Axes", candidates: Sequence[Scored], chosen: Scored) -> None:
    start = candidates[0].scores

    def at(scored: Scored) -> tuple[float, float]:
        return POINTS * scored.scores.in_domain, POINTS * scored.scores.out_of_domain

    styles = {
        "start": ("*", 140, "black"),
        "checkpoint": ("o", 28, _INSIDE),
        "average": ("s", 36, _INSIDE),
        "interpolation": ("D", 16, _OUTSIDE),
    }
    lines: dict[str, list[Scored]] = {}
    for scored in candidates:
        if scored.candidate.kind == "interpolation":
            lines.setdefault(scored.candidate.name.partition(" of ")[2], []).append(scored)
    ends = {scored.candidate.name: scored for scored in candidates}
    for end, between in lines.items():
        path = [at(candidates[0]), *(at(s) for s in between), at(ends[end])]
        axes.plot(*zip(*path, strict=True), color=_SETS, lw=0.8, zorder=1)
    for kind, (marker, size, colour) in styles.items():
        some = [at(s) for s in candidates if s.candidate.kind == kind]
        if some:
            xs, ys = zip(*some, strict=True)
            axes.scatter(xs, ys, marker=marker, s=size, color=colour, label=kind, zorder=2)
    x, y = at(chosen)
    axes.scatter([x], [y], s=160, facecolors="none", edgecolors="black", lw=1.4, zorder=3)
    axes.annotate(f"chosen: {chosen.candidate.name}", (x, y), (6, 8), textcoords="offset points")
    axes.axhline(POINTS * start.out_of_domain, color="black", lw=0.8, ls=":")
    axes.set(
        title="Held-out against sets",
        xlabel="held-out recall@10",
        ylabel="mean of the sets, F1",
    )
    axes.legend(fontsize=8, frameon=False)
