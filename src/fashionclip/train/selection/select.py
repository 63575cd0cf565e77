"""From a run folder to the checkpoint that is kept, and why.

Every candidate's scores lie in ``scores/`` as soon as they are known, so that a run that was
killed while it chose goes on where it stopped.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.checkpoint import Checkpoint, open_checkpoint
from fashionclip.errors import CheckpointError, TrainingError
from fashionclip.evaluate.leakage import TrainingData, read_training_data, write_training_data
from fashionclip.train.recipe import Selection
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
    Row,
    Scored,
    Sight,
    find_rule,
    leave_one_set_out,
)
from fashionclip.train.selection.scoring import Scores, read_scores, score_checkpoint
from fashionclip.train.selection.suite import Suite

OnScores = Callable[[str, int, Scores], None]
"""Called with a candidate's name, its step and its scores as soon as they are known."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What was chosen, and out of what."""

    rule: str
    chosen: Scored
    candidates: tuple[Scored, ...]
    """The start first, then checkpoints, the average, interpolations."""
    table: tuple[Row, ...]
    """What each rule would have cost on a set left out."""
    notes: tuple[str, ...]
    """What a reader must know: sets that could not be asked, checkpoints that were damaged."""

    @property
    def start(self) -> Scores:
        """The untouched start's scores."""
        return self.candidates[0].scores


def watch_checkpoints(
    run: RunFolder,
    start: Checkpoint,
    suite: Suite,
    plan: Selection,
    on_scores: OnScores | None = None,
) -> OnCheckpoint:
    """Make what the trainer calls with each checkpoint: it is scored, and may end the run.

    The start is scored first, when the first checkpoint comes: the run folder is claimed by then.
    The run ends when the mean over the sets has fallen more than ``plan.stop_below`` points below
    the start's.

    Raises:
        TrainingError: there is no such rule.
    """
    find_rule(plan.rule)  # before hours are spent
    score = _Scorer(run, suite, on_scores)

    def on_checkpoint(step: int, folder: Path) -> bool:
        of_start = score(start_of(start)).scores
        scores = score(checkpoint_at(step, open_checkpoint(folder))).scores
        fallen = POINTS * (of_start.out_of_domain - scores.out_of_domain)
        line = {"in_domain": scores.in_domain, "out_of_domain": scores.out_of_domain}
        loss = {"validation_loss": scores.validation_loss, "sets": dict(scores.sets)}
        write_log(run, {"event": "scores", "step": step, **line, **loss})
        if fallen <= plan.stop_below:
            return True
        why = (
            f"the mean over {', '.join(suite.sets)} has fallen {fallen:.1f} points below the "
            f"start's, more than selection.stop_below = {plan.stop_below:g}"
        )
        write_log(run, {"event": "stopped early", "step": step, "why": why})
        return False

    return on_checkpoint


def select_checkpoint(
    run: RunFolder,
    start: Checkpoint,
    suite: Suite,
    plan: Selection,
    *,
    training: TrainingData | None = None,
    on_scores: OnScores | None = None,
) -> Choice:
    """Score what can be chosen, choose by the plan's rule, and write ``selected/``.

    Candidates are the start, every checkpoint, the average of the last ones, and interpolations
    of the start with the last checkpoint, with the one that is best in its own domain, and with
    the average.

    Args:
        run: its checkpoints.
        start: what training began with.
        suite: what each is asked.
        plan: the rule, the interpolations, the average.
        training: digests of what the run trained on; written beside the chosen weights, together
            with those that the start's folder holds.
        on_scores: called as scores become known.

    Raises:
        TrainingError: there is no checkpoint, no such rule, or the folder cannot be written.
        CheckpointError: the chosen weights cannot be written.
        EvaluationError: the start cannot be scored.
    """
    rule = find_rule(plan.rule)
    score = _Scorer(run, suite, on_scores)
    notes = list(suite.notes)
    scored = [score(start_of(start))]
    for step, folder in run.checkpoints().items():
        try:
            scored.append(score(checkpoint_at(step, open_checkpoint(folder))))
        except CheckpointError as error:
            notes.append(f"step {step} is not a candidate: {error}")
    if len(scored) == 1:
        message = f"{run.root} holds no whole checkpoint to choose from; train first"
        raise TrainingError("; ".join([message, *notes[len(suite.notes) :]]))
    scored += [score(candidate) for candidate in _mixtures(scored, plan)]
    chosen = rule.choose(scored, Sight(scored[0].scores, tuple(suite.sets)))
    write_candidate(chosen.candidate, run.selected)
    _write_digests(run.selected, start, training, touched=chosen.candidate.kind != "start")
    if len(suite.sets) == 1:
        notes.append("with one set, none is left to choose by when it is left out")
    return Choice(plan.rule, chosen, tuple(scored), leave_one_set_out(scored), tuple(notes))


def _mixtures(scored: Sequence[Scored], plan: Selection) -> Iterator[Candidate]:
    """The average, then interpolations with every end of training that may be worth one."""
    start, *checkpoints = scored
    ends = [checkpoints[-1].candidate]
    sight = Sight(start.scores, tuple(start.scores.sets))
    ends.append(RULES["retrieval"].choose(scored, sight).candidate)
    last = [one.candidate for one in checkpoints[-plan.average :]]
    if plan.average > 1 and len(last) > 1:
        ends.append(average_of(last))
        yield ends[-1]
    for end in {one.name: one for one in ends}.values():
        for alpha in sorted(set(plan.alphas) - {0.0, 1.0}):
            yield interpolation(start.candidate, end, alpha)


class _Scorer:
    """Scores a candidate once, and keeps what it came to."""

    def __init__(self, run: RunFolder, suite: Suite, on_scores: OnScores | None) -> None:
        self._folder, self._suite = run.root / "scores", suite
        self._digest = suite.digest
        self._on_scores = on_scores or (lambda name, step, scores: None)
        self._told: set[str] = set()

    def __call__(self, candidate: Candidate) -> Scored:
        path = self._folder / f"{candidate.name.replace(' ', '-')}.json"
        known = {"fingerprint": candidate.fingerprint, "suite": self._digest}
        scores = _read(path, known)
        if scores is None:
            scores = self._score(candidate)
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                text = json.dumps({**known, "scores": scores.fields()}, indent=2)
                write_whole(path, text.encode())
            except OSError as exc:
                message = f"{path} cannot be written ({exc.strerror}); make room"
                raise TrainingError(message) from exc
        if candidate.name not in self._told:
            self._told.add(candidate.name)
            self._on_scores(candidate.name, candidate.step, scores)
        return Scored(candidate, scores)

    def _score(self, candidate: Candidate) -> Scores:
        if len(candidate.parts) == 1:
            return score_checkpoint(candidate.parts[0][0], self._suite)
        with tempfile.TemporaryDirectory(prefix=".candidate-", dir=self._folder.parent) as place:
            folder = Path(place) / "mixed"
            write_candidate(candidate, folder)
            return score_checkpoint(open_checkpoint(folder), self._suite)


def _read(path: Path, known: dict[str, str]) -> Scores | None:
    """Scores of the same weights on the same questions, if they lie there whole."""
    try:
        found = json.loads(path.read_bytes())
        if known.items() <= found.items():
            return read_scores(found["scores"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None


def _write_digests(
    folder: Path, start: Checkpoint, training: TrainingData | None, *, touched: bool
) -> None:
    """Put together what the start and this run have seen; the untouched start saw its own only."""
    parts = [read_training_data(start.folder), training if touched else None]
    if known := [part for part in parts if part]:
        write_training_data(TrainingData.union(known), folder)
