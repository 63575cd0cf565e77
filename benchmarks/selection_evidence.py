"""What each selection rule would have cost, over many training runs.

    python benchmarks/selection_evidence.py                  # tables of the runs that are known
    python benchmarks/selection_evidence.py --into runs/selection --unseen-start DIR
    python benchmarks/selection_evidence.py --into runs/selection --runs shipped-harsh

``selection_runs.toml`` lists the runs: starts, learning rates, batch sizes, data, with and without
the anchor loss. Each is a process of its own (``selection_run.py``). A run that has finished is not
repeated, and a killed one is resumed. Rules select by development images, and what they cost is
measured on test images, each set left out in turn. The measured candidates of all runs go into
``runs.json``, and the project's own into ``selection_runs.json`` beside this script, from where the
documentation and the built-in model's card have their figures:

    cp runs/selection/runs.json benchmarks/selection_runs.json
    python scripts/write_output.py selection_evidence

``--unseen-start`` is the ``selected/`` of a training on other clothes than ``kagl``, with its
``trained-on.safetensors``. Fashion-MNIST is needed too: ``apt install dataset-fashion-mnist``.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from selection_run import PLAN, parse, read_plan

from fashionclip.atomic import write_whole
from fashionclip.evaluate.report.markdown import table
from fashionclip.metrics.intervals import two_level_interval
from fashionclip.train.selection.candidates import Candidate
from fashionclip.train.selection.rules import RuleRow, Scored, leave_one_set_out
from fashionclip.train.selection.suite import Scores

KNOWN = Path(__file__).with_name("selection_runs.json")
LOSS_POINTS = 1.0
"""A rule loses in a run if its choices fall further below the start outside the domain."""
SHOWN_RULES = ("validation-loss", "retrieval", "average", "out-of-domain", "both", "guarded")
"""Those whose choices the table of the runs shows; the others' follow from their names."""
_STEP = re.compile(r"step-0*")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over runs, and over the sets of each, in points."""

    value: float
    low: float
    high: float
    """Of a 95 % interval that resamples runs, and the sets of each."""

    def __str__(self) -> str:
        """As in the tables: ``0.9 [0.4 to 1.6]``."""
        return f"{self.value:.1f} [{self.low:.1f} to {self.high:.1f}]"


@dataclass(frozen=True, slots=True)
class RuleSummary:
    """What a rule cost over all runs."""

    rule: str
    cost: Mean
    """Points below the best candidate on a set left out."""
    worst_cost: float
    """On any set of any run."""
    against_start: Mean
    """Points above the start on a set left out."""
    n_lost: int
    """Runs in which it fell more than ``LOSS_POINTS`` below the start, on average over the sets."""
    gain: Mean
    """Points of recall@10 above the start, on held-out pairs of the run's own catalogue."""


def scores_of(fields: Mapping[str, Any]) -> Scores:
    return Scores(fields["validation_loss"], fields["retrieval"], fields["sets"], {}, {}, 0.0)


def rules_of(run: Mapping[str, Any]) -> tuple[RuleRow, ...]:
    """The rules of one run: they select on development images, and are measured on test images."""
    scored = [
        Scored(Candidate(one["name"], one["kind"], one["step"], ()), scores_of(one["development"]))
        for one in run["candidates"]
    ]
    return leave_one_set_out(scored, [scores_of(one["test"]) for one in run["candidates"]])


def mean_of(groups: Sequence[Sequence[float]]) -> Mean:
    """Over runs, and over the values of each."""
    arrays = [np.array(values, np.float64) for values in groups]
    value = float(np.mean([values.mean() for values in arrays]))
    return Mean(value, *two_level_interval(arrays))


def summarize(runs: Sequence[Mapping[str, Any]]) -> list[RuleSummary]:
    """Every rule over all runs, in the order of ``RULES``."""
    found = []
    for rows in zip(*(rules_of(run) for run in runs), strict=True):
        costs, gains = (
            [[getattr(left, name) for left in row.sets.values()] for row in rows]
            for name in ("cost", "against_start")
        )
        found.append(
            RuleSummary(
                rule=rows[0].rule,
                cost=mean_of(costs),
                worst_cost=max(row.worst_cost for row in rows),
                against_start=mean_of(gains),
                n_lost=sum(float(np.mean(values)) < -LOSS_POINTS for values in gains),
                gain=mean_of([[row.in_domain_gain] for row in rows]),
            )
        )
    return found


def evidence_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of ``runs.json``: the rules over all runs, as a card states them; the runs."""
    sets = sorted({name for run in runs for name in run["candidates"][0]["test"]["sets"]})
    return {
        "rule": "guarded",
        "n_runs": len(runs),
        "left_out": [
            {
                "rule": one.rule,
                "mean_cost": round(one.cost.value, 4),
                "interval": [round(one.cost.low, 4), round(one.cost.high, 4)],
                "worst_cost": round(one.worst_cost, 4),
                "sets": sets,
            }
            for one in summarize(runs)
        ],
        "runs": list(runs),
    }


def rules_table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ["rule", "cost on a set left out", "worst", "against the start"]
    head += [f"runs that lose over {LOSS_POINTS:g}", "gain on held-out pairs"]
    return table(
        head,
        [
            [
                *(one.rule, str(one.cost), f"{one.worst_cost:.1f}", signed(one.against_start)),
                *(f"{one.n_lost} of {len(runs)}", signed(one.gain)),
            ]
            for one in summarize(runs)
        ],
    )


def signed(mean: Mean) -> str:
    return f"{mean.value:+.1f} [{mean.low:+.1f} to {mean.high:+.1f}]"


def runs_table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each run was, and what the rules chose; *best* is known from the test images alone."""
    head = ["run", "start", "data", "rate", "batch", "anchor", "steps", "best", *SHOWN_RULES]
    rows = []
    for run in runs:
        chosen = {row.rule: row.chosen for row in rules_of(run)}
        cells = [run["name"], run["start"], run["data"], f"{run['lr']:g}", str(run["batch"])]
        cells += [f"{run['anchor']:g}", str(run["steps_taken"]), short(best_of(run))]
        rows.append([*cells, *(short(chosen[rule]) for rule in SHOWN_RULES)])
    return table(head, rows)


def best_of(run: Mapping[str, Any]) -> str:
    """The candidate with the best mean of recall and the sets' mean on test images."""

    def value(one: Mapping[str, Any]) -> float:
        scores = scores_of(one["test"])
        return scores.in_domain + scores.out_of_domain

    return str(max(run["candidates"], key=value)["name"])


def short(name: str) -> str:
    return _STEP.sub("step ", name)


def differences_table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The candidate that each run selected against its start, on test images, paired."""
    head = ["run", "selected", "held out, had seen", "learned, had seen"]
    head += ["held-out captions, recall@10"]
    head += ["mean of the sets", "better", "worse"]
    rows = []
    for run in runs:
        pairs = run["pairs"]
        cells = [run["name"], short(run["chosen"])]
        cells.append(f"{pairs['held_out_seen']} of {pairs['development'] + pairs['test']}")
        cells.append(f"{pairs['learned_seen']} of {pairs['learned_checked']}")
        found = {one["task"]: one for one in run["differences"]}
        if not found:
            rows.append([*cells, "the start itself", "0.0", "", ""])
            continue
        own = found["held-out/captions"]
        change = f"{own['start']:.1f} {span(own)}, n = {own['n']:,}"
        sets = {task: one for task, one in found.items() if not task.startswith("held-out/")}
        better = [f"{task} {span(one)}" for task, one in sets.items() if one["low"] > 0]
        worse = [f"{task} {span(one)}" for task, one in sets.items() if one["high"] < 0]
        cells += [change, f"{outside(run):+.1f}", "; ".join(better), "; ".join(worse)]
        rows.append(cells)
    return table(head, rows)


def span(one: Mapping[str, float]) -> str:
    return f"{one['value']:+.1f} [{one['low']:+.1f} to {one['high']:+.1f}]"


def outside(run: Mapping[str, Any]) -> float:
    """Points of the sets' mean on test images that the selected candidate is above the start."""
    scores = {one["name"]: scores_of(one["test"]) for one in run["candidates"]}
    return 100 * (scores[run["chosen"]].out_of_domain - scores["start"].out_of_domain)


def page(evidence: Mapping[str, Any]) -> Iterator[str]:
    """The tables as Markdown."""
    runs = evidence["runs"]
    if any(run["is_trial"] for run in runs):
        yield "**These runs are trials of a few steps: no evidence.**\n"
    sets = sorted({name for run in runs for name in run["candidates"][0]["test"]["sets"]})
    yield f"**The rules over {len(runs)} runs.** Sets: {', '.join(f'`{name}`' for name in sets)}.\n"
    yield from rules_table(runs)
    yield "\n**What the runs were, and what the rules selected.** The starts are:\n"
    words = read_plan()["starts"]
    yield from (f"- `{name}`: {words[name]}." for name in dict.fromkeys(r["start"] for r in runs))
    yield ""
    yield from runs_table(runs)
    yield "\n**What `guarded` selected, against the start**, on test images, paired:\n"
    yield from differences_table(runs)


def make_runs(names: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Make the runs that have not finished, one after the other; returns those that failed."""
    failed = []
    for name in names:
        if (options.into / "runs" / name / "evidence.json").exists():
            print(f"{name}: has finished", file=sys.stderr)
            continue
        command = [sys.executable, str(Path(__file__).with_name("selection_run.py")), name]
        command += ["--into", str(options.into), "--data", str(options.data)]
        if options.unseen_start is not None:
            command += ["--unseen-start", str(options.unseen_start)]
        command += ["--trial"] if options.trial else []
        print(f"{name}: begins", file=sys.stderr, flush=True)
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", help=f"names of {PLAN.name}, with commas; all by default")
    options = parse(parser)
    if options.into is None:
        print("\n".join(page(json.loads(KNOWN.read_bytes()))))
        return
    every = [run["name"] for run in read_plan()["runs"]]
    wanted = options.runs.split(",") if options.runs else every
    if unknown := sorted(set(wanted) - set(every)):
        raise SystemExit(f"error: no run {', '.join(unknown)}; there are {', '.join(every)}")
    failed = make_runs(wanted, options)
    files = [options.into / "runs" / name / "evidence.json" for name in every]
    found = [json.loads(file.read_bytes()) for file in files if file.exists()]
    if found:
        evidence = evidence_of(found)
        content = json.dumps(evidence, separators=(",", ":"))
        write_whole(options.into / "runs.json", content.encode())
        print("\n".join(page(evidence)))
    if failed:
        raise SystemExit(f"error: failed: {', '.join(failed)}; the same command repeats them")


if __name__ == "__main__":
    main()
