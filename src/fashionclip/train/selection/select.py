"""Scoring of all candidates, the selection of one, and when a run stops early.

The scores of every candidate are written to ``scores/`` as soon as they are known, so that a killed
selection is resumed.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fashionclip.checkpoint import Checkpoint, open_checkpoint
from fashionclip.errors import CheckpointError, TrainingError
from fashionclip.evaluate.leakage import TrainingData, read_training_data, write_training_data
from fashionclip.train.recipe import SelectionConfig
from fashionclip.train.run import OnCheckpoint, RunFolder, write_log
from fashionclip.train.selection.candidates import (
    Candidate,
    average_of,
    checkpoint_at,
    interpolation,
    start_of,
    write_candidate,
)
from fashionclip.train.selection.rules import (
    POINTS,
    RULES,
    RuleRow,
    Scored,
    SelectionContext,
    leave_one_set_out,
)
from fashionclip.train.selection.suite import Scores, Suite, read_scores, score_checkpoint

OnScores = Callable[[str, int, Scores], None]
"""Called with the name, the step and the scores of each candidate."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The selected candidate, and what it was selected from."""

    rule: str
    chosen: Scored
    candidates: tuple[Scored, ...]
    """The start first, then checkpoints, the average, interpolations."""
    table: tuple[RuleRow, ...]
    """What each rule would have cost on a set left out."""
    notes: tuple[str, ...]
    """Sets that could not be used, and damaged checkpoints."""

    @property
    def start(self) -> Scores:
        """The untouched start's scores."""
        return self.candidates[0].scores


def watch_checkpoints(
    run: RunFolder,
    start: Checkpoint,
    suite: Suite,
    config: SelectionConfig,
    on_scores: OnScores | None = None,
) -> OnCheckpoint:
    """Make the callback of the trainer that scores each checkpoint and stops the run early.

    The start is scored before the first checkpoint. The run ends when the mean over the sets has
    fallen more than ``config.stop_below`` points below the start's.
    """
    score = CandidateScorer(run, suite, on_scores=on_scores)

    def on_checkpoint(step: int, folder: Path) -> bool:
        of_start = score(start_of(start)).scores
        scores = score(checkpoint_at(step, open_checkpoint(folder))).scores
        drop = POINTS * (of_start.out_of_domain - scores.out_of_domain)
        line = {"in_domain": scores.in_domain, "out_of_domain": scores.out_of_domain}
        loss = {"validation_loss": scores.validation_loss, "sets": dict(scores.sets)}
        write_log(run, {"event": "scores", "step": step, **line, **loss})
        if drop <= config.stop_below:
            return True
        why = (
            f"the mean over {', '.join(suite.sets)} has fallen {drop:.1f} points below the "
            f"start's, more than selection.stop_below = {config.stop_below:g}"
        )
        write_log(run, {"event": "stopped early", "step": step, "why": why})
        return False

    return on_checkpoint


def select_checkpoint(
    run: RunFolder,
    start: Checkpoint,
    suite: Suite,
    config: SelectionConfig,
    *,
    training: TrainingData | None = None,
    on_scores: OnScores | None = None,
) -> Choice:
    """Score all candidates, select one by the configured rule, and write ``selected/``.

    Candidates are the start, every checkpoint, the average of the last ones, and interpolations
    of the start with the last checkpoint, with the one with the best held-out retrieval, and with
    the average.

    Args:
        run: its checkpoints.
        start: the checkpoint that training started from.
        suite: the development tasks.
        config: the rule, the interpolations, the average.
        training: digests of the training data; written beside the selected weights, together with
            those in the start's folder.
        on_scores: called with the scores of each candidate.

    Raises:
        TrainingError: there is no checkpoint, or the folder cannot be written.
        CheckpointError: the chosen weights cannot be written.
        EvaluationError: the start cannot be scored.
    """
    score = CandidateScorer(run, suite, on_scores=on_scores)
    notes = list(suite.notes)
    scored = [score(start_of(start))]
    for step, folder in run.checkpoints().items():
        try:
            scored.append(score(checkpoint_at(step, open_checkpoint(folder))))
        except CheckpointError as error:
            notes.append(f"step {step} is not a candidate: {error}")
    if len(scored) == 1:
        message = f"{run.root} holds no whole checkpoint to select from; train first"
        raise TrainingError("; ".join([message, *notes[len(suite.notes) :]]))
    scored += [score(candidate) for candidate in _mixtures(scored, config)]
    context = SelectionContext(scored[0].scores, tuple(suite.sets))
    chosen = RULES[config.rule].choose(scored, context)
    write_candidate(chosen.candidate, run.selected)
    _write_digests(run.selected, start, training if chosen.candidate.kind != "start" else None)
    if len(suite.sets) == 1:
        notes.append("there is one set only, so the rules' costs are not those of an unseen set")
    return Choice(config.rule, chosen, tuple(scored), leave_one_set_out(scored), tuple(notes))


def _mixtures(scored: Sequence[Scored], config: SelectionConfig) -> Iterator[Candidate]:
    """The average, then interpolations of the start with each end point."""
    start, *checkpoints = scored
    ends = [checkpoints[-1].candidate]
    context = SelectionContext(start.scores, tuple(start.scores.sets))
    ends.append(RULES["retrieval"].choose(scored, context).candidate)
    last = [one.candidate for one in checkpoints[-config.average :]]
    if config.average > 1 and len(last) > 1:
        ends.append(average_of(last))
        yield ends[-1]
    for end in {one.name: one for one in ends}.values():
        for alpha in sorted(set(config.alphas) - {0.0, 1.0}):
            yield interpolation(start.candidate, end, alpha)


class CandidateScorer:
    """Scores each candidate once; scores on disk are reused."""

    def __init__(
        self,
        run: RunFolder,
        suite: Suite,
        *,
        folder: str = "scores",
        on_scores: OnScores | None = None,
    ) -> None:
        """Prepare to score candidates of a run.

        Args:
            run: the candidates' run.
            suite: what they are scored on.
            folder: of the scores in the run folder; one for each suite.
            on_scores: called with the scores of each candidate, once.
        """
        self._run, self._suite, self._folder = run, suite, run.root / folder
        self._digest = suite.digest
        self._on_scores = on_scores or (lambda name, step, scores: None)
        self._reported: set[str] = set()

    def __call__(self, candidate: Candidate) -> Scored:
        """Score a candidate, or read its scores.

        Raises:
            TrainingError: its scores cannot be written.
            CheckpointError: its parts cannot be read or mixed.
            EvaluationError: it cannot be scored.
        """
        path = self._folder / f"{candidate.name.replace(' ', '-')}.json"
        known = {"fingerprint": candidate.fingerprint, "suite": self._digest}
        scores = _read(path, known)
        if scores is None:
            scores = self._score(candidate)
            fields = {**known, "scores": scores.fields()}
            self._run.write(path, json.dumps(fields, indent=2))
        if candidate.name not in self._reported:
            self._reported.add(candidate.name)
            self._on_scores(candidate.name, candidate.step, scores)
        return Scored(candidate, scores)

    def _score(self, candidate: Candidate) -> Scores:
        if len(candidate.parts) == 1:
            return score_checkpoint(candidate.parts[0][0], self._suite)
        with tempfile.TemporaryDirectory(prefix=".candidate-", dir=self._run.root) as place:
            folder = Path(place) / "mixed"
            write_candidate(candidate, folder)
            return score_checkpoint(open_checkpoint(folder), self._suite)


def _read(path: Path, known: dict[str, str]) -> Scores | None:
    """Scores of the same weights on the same suite, if the file is whole."""
    try:
        found = json.loads(path.read_bytes())
        if known.items() <= found.items():
            return read_scores(found["scores"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None


def _write_digests(folder: Path, start: Checkpoint, training: TrainingData | None) -> None:
    """Write the digests of the start's training data together with those of this run's."""
    parts = [part for part in (read_training_data(start.folder), training) if part]
    if parts:
        write_training_data(TrainingData.union(parts), folder)
