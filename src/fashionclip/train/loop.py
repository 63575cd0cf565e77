"""The steps of a run, from its start or from where it was killed, to its end."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_

from fashionclip.errors import CheckpointError, TrainingError
from fashionclip.product import Reject
from fashionclip.train import distributed, losses
from fashionclip.train.gradients import backward
from fashionclip.train.loader import Batch, Loader, Share
from fashionclip.train.optimizer import follow, lr_at, make_optimizer, round_to_half, set_lr
from fashionclip.train.passes import (
    choose_device,
    choose_precision,
    inputs_of,
    make_passes,
    sides_of,
)
from fashionclip.train.prepare import FINISHED, Ground, prepare, steps_of
from fashionclip.train.recipe import Recipe
from fashionclip.train.run import (
    OnCheckpoint,
    RunFolder,
    drop_log_after,
    read_facts,
    read_rejects,
    write_facts,
    write_reject,
)
from fashionclip.train.state import Learner, collect, load_state, restore, save_state
from fashionclip.train.teacher import open_teachers
from fashionclip.train.towers import (
    choose_weights,
    open_towers,
    save_weights,
    trainable,
    with_activation,
)
from fashionclip.train.watching import Watch, Watcher


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    steps: int
    loss: float
    """Of the last step; NaN if this call took none."""
    status: str
    """``finished`` or ``stopped early``."""


def train(
    recipe: Recipe,
    run: RunFolder,
    *,
    on_checkpoint: OnCheckpoint | None = None,
    watch: Watch | None = None,
    changed_data: bool = False,
) -> Outcome:
    """Run a recipe to its end; a run that was killed goes on from its last state.

    Under ``torchrun`` every process calls this; the first one writes and is called back.

    Args:
        recipe: what is asked for.
        run: its folder.
        on_checkpoint: called as soon as a checkpoint is whole; False ends the run.
        watch: called after every step.
        changed_data: go on though the data are not those that the run began with.

    Raises:
        TrainingError: it cannot begin or go on, or the loss is no longer a number; checkpoints
            and states up to then stay.
        FashionCLIPError: the data, the start or the device cannot be used.
    """
    device = distributed.own_device(choose_device(recipe.model.device))
    with distributed.processes(device) as share:
        ground = prepare(recipe, run, share, changed_data=changed_data)
        facts = read_facts(run)
        if facts["status"] in FINISHED:
            return Outcome(int(facts["steps"]), math.nan, facts["status"])
        with Watcher(run, watch, share) as watcher:
            return _Run(recipe, run, ground, share, device, watcher).to_end(on_checkpoint)


class _Run:
    """One process's part in a run."""

    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        ground: Ground,
        share: Share,
        device: torch.device,
        watcher: Watcher,
    ) -> None:
        self.recipe, self.run, self.ground, self.share = recipe, run, ground, share
        self.device, self.watcher = device, watcher
        self.n_steps = steps_of(recipe, ground)
        self.checkpoint = with_activation(ground.start, recipe.model.activation)
        self.precision = choose_precision(recipe.model.precision, device)
        self.towers = open_towers(self.checkpoint, device)
        choose_weights(self.towers, recipe.model, seed=recipe.schedule.seed)
        self.teachers = open_teachers(recipe, ground.start, device, self.precision)
        is_siglip = recipe.loss.kind == "siglip"
        self.temperature = losses.Temperature(
            ground.start.config.logit_scale, has_bias=is_siglip
        ).to(device)
        self.passes = make_passes(self.checkpoint, device, self.precision)
        self.loader = self._loader()
        self.model: nn.Module = distributed.spread(
            self.towers, share, parallel=recipe.model.parallel
        )
        weights = trainable(self.model)
        if not weights:
            message = "nothing is left to train; set model.freeze to none, vision or text"
            raise TrainingError(message)
        optimizer = make_optimizer(
            weights.items(), self.temperature.parameters(), self.checkpoint.config, recipe.optimizer
        )
        average = None
        if recipe.optimizer.ema:
            average = {name: weight.detach().clone() for name, weight in weights.items()}
        self.learner = Learner(weights, self.temperature, optimizer, average)

    def to_end(self, on_checkpoint: OnCheckpoint | None) -> Outcome:
        """Take the steps that are left.

        Raises:
            TrainingError: the loss is no longer a number.
        """
        self._go_on()
        learner, schedule = self.learner, self.recipe.schedule
        every = schedule.checkpoint_every or self.loader.steps_an_epoch
        status, loss = "finished", math.nan
        with self._batches() as batches:
            while learner.step < self.n_steps:
                asked = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - asked
                loss, figures = self._step(batch)
                learner.step += 1
                seconds = time.perf_counter() - asked
                is_last = learner.step == self.n_steps
                self.watcher.step(
                    learner.step,
                    self.n_steps,
                    {
                        "epoch": learner.step / self.loader.steps_an_epoch,
                        "loss": loss,
                        **figures,
                        "samples_per_s": self.ground.batch_size / seconds,
                        "data_share": waited / seconds,
                    },
                    is_logged=is_last or learner.step % schedule.log_every == 0,
                )
                if learner.step % every == 0 or is_last:
                    goes_on = self._checkpoint(on_checkpoint, is_last=is_last)
                    status = status if goes_on else "stopped early"
                elif learner.step % schedule.state_every == 0:
                    self._save_state()
                if status != "finished":
                    break
        if self.share.rank == 0:
            write_facts(self.run, status=status, steps=learner.step, precision=self.precision)
        distributed.wait_for_all()
        return Outcome(learner.step, loss, status)

    def _step(self, batch: Batch) -> tuple[float, dict[str, float]]:
        recipe, learner = self.recipe, self.learner
        lr = lr_at(learner.step, self.n_steps, recipe.optimizer)
        set_lr(learner.optimizer, lr)
        learner.optimizer.zero_grad(set_to_none=True)
        inputs = inputs_of(batch, self.checkpoint, self.device)
        relations = self._relate(batch)
        aims = [teacher.sides(inputs, self.share) for teacher in self.teachers]
        mine = len(inputs)
        chunk = min(recipe.schedule.chunk_size, mine)

        def loss_of(pictures: Tensor, texts: Tensor) -> Tensor:
            sides = sides_of(pictures, texts, self.share)
            loss = losses.contrastive(sides, self.temperature, relations, recipe.loss)
            for teacher, aim in zip(self.teachers, aims, strict=True):
                loss = loss + teacher.loss(sides, aim, self.temperature)
            return loss

        loss = backward(self.model, inputs, self.passes, loss_of, chunk_size=chunk)
        distributed.average(loss, *(p.grad for p in self.temperature.parameters()))
        weights = list(learner.weights.values())
        if self.precision == "float16":
            round_to_half(weights, gradients=True)
        norm = self._clip(weights)
        self._check_numbers(float(loss), norm)
        learner.optimizer.step()
        if self.precision == "float16":
            round_to_half(weights, gradients=False)
        self.temperature.clamp(recipe.loss.scale_max)
        if learner.average is not None:
            follow(learner.average, learner.weights, recipe.optimizer.ema, learner.step)
        figures = {
            "logit_scale": self.temperature.factor,
            "lr": lr,
            "gradient_norm": norm,
        }
        return float(loss), figures

    def _clip(self, weights: list[nn.Parameter]) -> float:
        """Shorten the gradient where it is too long; its length before."""
        longest = self.recipe.optimizer.clip_norm
        norm = clip_grad_norm_([*weights, *self.temperature.parameters()], longest)
        whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
        return float(whole)

    def _relate(self, batch: Batch) -> losses.Relations:
        keys = torch.from_numpy(batch.keys).to(self.device)
        attributes = torch.from_numpy(batch.attributes).to(self.device)
        return losses.relate(
            keys,
            attributes,
            distributed.gather(keys),
            distributed.gather(attributes),
            self.share.rank * len(keys),
        )

    def _check_numbers(self, loss: float, norm: float) -> None:
        """Stop before weights are spoilt.

        Raises:
            TrainingError: the loss, or the gradient's length, is no number.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            return
        step = self.learner.step + 1
        what = "loss" if not math.isfinite(loss) else "gradient"
        self.watcher.event("not a number", step=step, what=what)
        if self.share.rank == 0:
            write_facts(self.run, status="failed", steps=self.learner.step)
        kept = list(self.run.checkpoints().values())
        last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
        message = (
            f"the {what} of step {step} is not a number; {last}. Lower optimizer.lr, raise "
            "optimizer.warmup_steps, or set optimizer.clip_norm = 1.0, and start a new run"
        )
        raise TrainingError(message)

    def _go_on(self) -> None:
        """Take up the last whole state, if there is any."""
        state, wrong = load_state(self.run.states)
        done = 0 if state is None else int(state["step"])
        if self.share.rank == 0:
            drop_log_after(self.run, done)
        for what in wrong:
            self.watcher.event("state broken", reason=what)
        if state is None:
            if self.temperature.logit_bias is not None:
                self._fit_bias()
            return
        restore(self.learner, state)
        self.watcher.event("resumed", step=self.learner.step)

    def _fit_bias(self) -> None:
        with self._batches() as batches, torch.no_grad():
            inputs = inputs_of(next(batches), self.checkpoint, self.device)
            sides = sides_of(*self.passes.vectors(self.model, inputs), self.share)
        bias = losses.fitting_bias(sides.all_pictures, sides.all_texts, self.temperature.factor)
        with torch.no_grad():
            assert self.temperature.logit_bias is not None
            self.temperature.logit_bias.fill_(bias)

    def _checkpoint(self, on_checkpoint: OnCheckpoint | None, *, is_last: bool) -> bool:
        """Write a checkpoint and a state; False if the run ought to end here.

        Raises:
            TrainingError: the last checkpoint of all cannot be written.
        """
        state = collect(self.learner)
        goes_on = True
        if self.share.rank == 0:
            folder = self.run.checkpoint(self.learner.step)
            try:
                moved = state["average"] or state["weights"]
                save_weights(
                    self.checkpoint,
                    moved,
                    self.temperature.logit_scale,
                    folder,
                    lora_share=self.recipe.model.lora_alpha / max(1, self.recipe.model.lora_rank),
                )
            except CheckpointError as exc:
                self.watcher.event("checkpoint not saved", step=self.learner.step, reason=str(exc))
                if is_last:
                    raise TrainingError(str(exc)) from exc
            else:
                self.watcher.event("checkpoint", step=self.learner.step, folder=str(folder))
                if on_checkpoint is not None:
                    goes_on = on_checkpoint(self.learner.step, folder)
                    self.watcher.scores(self.learner.step)
            self._write_state(state)
        return bool(distributed.tell_all(goes_on))

    def _save_state(self) -> None:
        state = collect(self.learner)
        if self.share.rank == 0:
            self._write_state(state)

    def _write_state(self, state: dict[str, object]) -> None:
        try:
            save_state(self.run.states, state)
        except OSError as exc:
            reason = exc.strerror or str(exc)
            self.watcher.event("state not saved", step=self.learner.step, reason=reason)

    def _loader(self) -> Loader:
        known = read_rejects(self.run) if self.share.rank == 0 else set()

        def on_reject(reject: Reject) -> None:
            if (reject.row, reject.product_id) not in known:
                write_reject(self.run, reject)
            self.watcher.rejected()

        vision = self.checkpoint.config.vision
        return Loader(
            self.ground.pairs,
            self.ground.split.train,
            self.recipe,
            batch_size=self.ground.batch_size,
            tokenizer=self.checkpoint.tokenizer,
            preprocess=self.checkpoint.preprocess,
            n_patches=(vision.image_px // vision.patch_px) ** 2,
            share=self.share,
            on_reject=on_reject,
        )

    def _batches(self) -> AbstractContextManager[Iterator[Batch]]:
        return closing(self.loader.batches(self.learner.step))
