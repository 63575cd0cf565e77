"""The choice, for programs and people: ``selection.json``, ``.md`` and ``.svg``."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from fashionclip.atomic import write_whole
from fashionclip.errors import TrainingError
from fashionclip.evaluate.report.markdown import table
from fashionclip.train.run import RunFolder
from fashionclip.train.selection.curves import draw_curves
from fashionclip.train.selection.rules import POINTS, RULES, Row, Scored
from fashionclip.train.selection.scoring import Scores
from fashionclip.train.selection.select import Choice


def write_choice(choice: Choice, run: RunFolder) -> None:
    """Write the three files into the run folder.

    Raises:
        TrainingError: the folder cannot be written.
        MissingExtraError: matplotlib is not installed; the other two files are there.
    """
    pages: dict[str, Callable[[], bytes]] = {
        "selection.json": lambda: json.dumps(choice_fields(choice), indent=2).encode(),
        "selection.md": lambda: choice_markdown(choice).encode(),
        "selection.svg": lambda: draw_curves(choice.candidates, choice.chosen),
    }
    try:
        for name, page in pages.items():
            write_whole(run.root / name, page())
    except OSError as exc:
        message = f"the choice cannot be written to {run.root} ({exc.strerror}); make room"
        raise TrainingError(message) from exc


def choice_fields(choice: Choice) -> dict[str, Any]:
    """The whole choice as plain values."""
    return {
        "rule": choice.rule,
        "rule_in_words": RULES[choice.rule].words,
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


def _row_fields(row: Row) -> dict[str, Any]:
    return {
        "rule": row.rule,
        "rule_in_words": RULES[row.rule].words,
        "chosen": row.chosen,
        "mean_cost": row.mean_cost,
        "worst_cost": row.worst_cost,
        "worst_against_start": row.worst_against_start,
        "in_domain_cost": row.in_domain_cost,
        "in_domain_gain": row.in_domain_gain,
        "sets": {
            left.set_name: {
                "chosen": left.chosen,
                "cost": left.cost,
                "against_start": left.against_start,
            }
            for left in row.left_out
        },
    }


def choice_markdown(choice: Choice) -> str:
    """The choice as a page: what was chosen, every candidate, and the rules' table."""
    chosen, start = choice.chosen, choice.start
    lines = [
        "# Which checkpoint was kept",
        "",
        f"**{chosen.candidate.name}**, by the rule `{choice.rule}`: {RULES[choice.rule].words}.",
        "",
        f"Held-out retrieval {_against(chosen.scores.in_domain, start.in_domain)}, mean of the "
        f"sets {_against(chosen.scores.out_of_domain, start.out_of_domain)} against the start.",
        "",
        "Only development pictures were looked at. A figure's 95 % interval is about "
        f"{_widths(start)} points wide to either side; smaller differences may be chance.",
        "",
        "![Curves](selection.svg)",
        "",
        "## Candidates",
        "",
        *_candidates(choice),
        "",
        "## What each rule would have cost on a set left out",
        "",
        *left_out_table(choice),
        "",
        "Each rule chose by the other sets; its cost is what the best candidate for the set left "
        "out has more, in points of F1. *Against the start* is the worst of the sets left out. The "
        "last two columns are of the choice by all sets: points of held-out recall@10 above the "
        "start, and below the best candidate. The best of many is partly luck, so no rule reaches "
        "a cost of 0.",
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
        cells += [f"{left.cost:.1f}" for left in row.left_out]
        cells += [
            f"{row.mean_cost:.1f}",
            f"{row.worst_cost:.1f}",
            f"{row.worst_against_start:+.1f}",
        ]
        cells += [f"{row.in_domain_gain:+.1f}", f"{row.in_domain_cost:.1f}"]
        rows.append(cells)
    return table(head, rows)


def _candidates(choice: Choice) -> Iterator[str]:
    sets = list(choice.start.sets)
    head = ["candidate", "loss", "recall@10", *sets, "mean of the sets"]
    yield from table(head, [_cells(scored, choice) for scored in choice.candidates])


def _cells(scored: Scored, choice: Choice) -> list[str]:
    mark = "**" if scored is choice.chosen else ""
    scores = scored.scores
    values = [f"{scores.validation_loss:.3f}", f"{POINTS * scores.in_domain:.1f}"]
    values += [f"{POINTS * value:.1f}" for value in scores.sets.values()]
    return [f"{mark}{scored.candidate.name}{mark}", *values, f"{POINTS * scores.out_of_domain:.1f}"]


def _against(value: float, start: float) -> str:
    return f"{POINTS * value:.1f} ({POINTS * (value - start):+.1f})"


def _widths(scores: Scores) -> str:
    parts = [f"{POINTS * width:.1f} ({name})" for name, width in scores.half_widths.items()]
    return ", ".join(parts)
