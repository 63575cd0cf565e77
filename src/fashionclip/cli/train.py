"""``fashionclip train``: fine-tune on a catalogue by a recipe, into a run folder."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import cache_folder, examples, json_option, require_extra
from fashionclip.train.recipe import read_recipe, recipe_keys

if TYPE_CHECKING:
    from fashionclip.train.run import Progress
    from fashionclip.train.selection.suite import Scores
    from fashionclip.train.tune import Verdict

METAVARS = {str: "TEXT", int: "N", float: "X", bool: "true|false", tuple: "LIST"}


class RecipeCommand(click.Command):
    """A command with the keys of a recipe as options, grouped in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the command's own options, then the keys by group."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                group = parameter.opts[0].removeprefix("--").rpartition(".")[0]
                rows.setdefault(group and f"[{group}]", []).append(record)
        for group, records in sorted(rows.items(), key=lambda item: item[0] != ""):
            with formatter.section(group or "Options"):
                formatter.write_dl(records)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the keys of a recipe as options."""
    for key in reversed(list(recipe_keys())):
        option = click.option(
            f"--{key.group}.{key.name}",
            f"{key.group}__{key.name}",
            metavar="|".join(key.choices) or METAVARS[type(key.default)],
            help=f"{key.description}  [{_shown(key.default)}]",
        )
        command = option(command)
    return command


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if default != "" else "none"


@click.command(
    cls=RecipeCommand,
    epilog=examples(
        "$ fashionclip train builtin --data.catalog products.csv --out runs/first",
        "$ fashionclip train my-recipe.toml --optimizer.lr 3e-5 --out runs/second",
        "$ torchrun --nproc-per-node 2 -m fashionclip.cli train my-recipe.toml --out runs/third",
    ),
)
@click.argument("recipe", metavar="RECIPE")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="RUN",
    help="Folder of the run; the same command resumes a run that was stopped.",
)
@click.option(
    "--changed-data", is_flag=True, help="Resume even if the data have changed since the run began."
)
@json_option
@recipe_options
def command(recipe: str, out: Path, changed_data: bool, as_json: bool, **flags: str | None) -> None:
    """Fine-tune a CLIP model on a shop's images and texts.

    RECIPE is a TOML file, or the name of a recipe in the package: recommended, fashionclip-1,
    fashionclip-2, builtin. Each key of a recipe is also an option, which takes precedence. The
    defaults are shown in brackets.
    """
    begun = perf_counter()
    require_extra("train", "torch", "codecarbon", "matplotlib", "onnx", "peft", "tensorboard")
    asked = read_recipe(recipe, _overrides(flags))
    from fashionclip.publish.publish import publish_run
    from fashionclip.train.run import RunFolder
    from fashionclip.train.tune import tune  # loads PyTorch

    run = RunFolder(out)
    with terminal.progress("Training", total=None, noun="steps") as update:
        tuned = tune(
            asked,
            run,
            on_progress=_progress_watcher(update),
            on_scores=lambda name, step, scores: terminal.talk(_scores_line(name, scores)),
            on_measure=lambda what, done, total: update(done, 0, total, what),
            cache=cache_folder() / "evaluation",
            changed_data=changed_data,
        )
    outcome, choice = tuned.outcome, tuned.choice
    if choice is None or tuned.verdict is None:
        return
    published = publish_run(
        run, asked.publish, pictures=tuned.test_images, token=os.environ.get("HF_TOKEN")
    )
    if as_json:
        terminal.write_json(
            {
                "run": str(out),
                **asdict(outcome),
                "selected": choice.chosen.candidate.name,
                "rule": choice.rule,
                "published": published.place,
                "cost": tuned.cost,
                "seconds": perf_counter() - begun,
            }
        )
    else:
        _show_verdict(tuned.verdict)
    n_checkpoints = terminal.counted(len(run.checkpoints()), "checkpoint")
    terminal.say_counts(
        f"{outcome.status}: {terminal.counted(outcome.steps, 'step')}, {n_checkpoints}",
        f"kept {choice.chosen.candidate.name} by the rule {choice.rule}",
        f"published at {published.place}",
        seconds=perf_counter() - begun,
    )


def _scores_line(name: str, scores: "Scores") -> str:
    """A checkpoint's scores as one line."""
    sets = ", ".join(f"{set_name} {value:.3f}" for set_name, value in scores.sets.items())
    return (
        f"  {name}: held-out recall@10 {scores.in_domain:.3f}, loss {scores.validation_loss:.3f}; "
        f"{sets}; mean {scores.out_of_domain:.3f}"
    )


def _show_verdict(verdict: "Verdict") -> None:
    """Print the headline figures on the test split: start against selected."""
    rows = [
        [row.task, row.metric, f"{row.old:.3f}", f"{row.new:.3f}", row.verdict, f"{row.n:,}"]
        for row in verdict.comparison.rows
        if row.is_headline and not row.unseen
    ]
    headings = ["task", "figure", "start", "selected", "verdict", "n"]
    terminal.show_table(headings, rows, numbers=["start", "selected", "n"])


def _overrides(flags: Mapping[str, str | None]) -> dict[tuple[str, str], object]:
    """The keys that are set by options."""
    return {
        (key.group, key.name): text
        for key in recipe_keys()
        if (text := flags.get(f"{key.group}__{key.name}")) is not None
    }


def _progress_watcher(update: terminal.Update) -> "Callable[[Progress], None]":
    """A function that shows a run's progress: steps on the bar, events as messages."""

    def watch(progress: "Progress") -> None:
        event = progress.event
        if event is not None and event["event"] not in {"checkpoint", "scores"}:
            details = (str(event[name]) for name in ("reason", "step", "what") if name in event)
            terminal.warn(f"{event['event']}: {', '.join(details)}")
        scores = [f"{name} {value:.3f}" for name, value in list(progress.scores.items())[:3]]
        rate = f"{progress.samples_per_s:,.0f} pairs/s"
        what = ", ".join([f"Training: loss {progress.loss:.3f}", rate, *scores])
        update(progress.step, progress.n_rejected, progress.n_steps, what)

    return watch
