"""The steps of a run: forward, backward, logging, checkpoints; resumed from the last state."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_

from fashionclip.errors import CheckpointError, TrainingError
from fashionclip.product import Reject
from fashionclip.train import distributed
from fashionclip.train.loader import Batch, Loader
from fashionclip.train.loss import (
    Temperature,
    fit_bias,
    gather_features,
    make_targets,
    term_weights,
    total_loss,
)
from fashionclip.train.model import (
    PatchHead,
    choose_device,
    choose_precision,
    load_towers,
    make_forward,
    make_inputs,
    open_teachers,
    save_weights,
    set_trainable,
    teacher_features,
    text_inputs,
    trainable_weights,
    with_activation,
    with_prefixes,
)
from fashionclip.train.optimizer import (
    backward,
    lr_at,
    make_optimizer,
    round_to_half,
    set_lr,
    update_ema,
)
from fashionclip.train.prompts import (
    PromptTargets,
    open_prompts,
    prompt_labels,
    sample_prompts,
    to_targets,
)
from fashionclip.train.recipe import Recipe
from fashionclip.train.run import (
    OnCheckpoint,
    OnProgress,
    RunFolder,
    RunLog,
    RunRejects,
    drop_log_after,
    read_facts,
    write_facts,
)
from fashionclip.train.setup import FINISHED, TrainSetup, claim, prepare
from fashionclip.train.state import TrainState, load_state, save_state, whole_weights


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    steps: int
    loss: float
    """Loss of the last step; NaN if this call took none."""
    status: str
    """``finished`` or ``stopped early``."""


def train(
    recipe: Recipe,
    run: RunFolder,
    *,
    setup: TrainSetup | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    on_progress: OnProgress | None = None,
    changed_data: bool = False,
) -> Outcome:
    """Train by a recipe; a run that was killed is resumed from its last state.

    Under ``torchrun`` every process calls this; the first one writes and calls back.

    Args:
        recipe: the settings.
        run: its folder.
        setup: data and start, if they are already read.
        on_checkpoint: called with each checkpoint as soon as it is whole; False ends the run.
        on_progress: called after every step and event.
        changed_data: resume although the data have changed.

    Raises:
        TrainingError: the run cannot begin or resume, or the loss is no longer finite; checkpoints
            and states up to then stay.
        FashionCLIPError: the data, the start or the device cannot be used.
    """
    with distributed.process_group(device_of(recipe)) as group:
        setup = setup or prepare(recipe, run, group)
        if group.is_first:
            claim(setup, run, changed_data=changed_data)
        distributed.barrier()
        facts = read_facts(run)
        if facts["status"] in FINISHED:
            return Outcome(int(facts["steps"]), math.nan, facts["status"])
        with closing(RunLog(run, on_progress, is_first=group.is_first)) as log:
            return _Trainer(setup, run, log).train(on_checkpoint)


def device_of(recipe: Recipe) -> torch.device:
    """The device of this process."""
    return distributed.local_device(choose_device(recipe.model.device))


class _Trainer:
    """One process's part of a run."""

    def __init__(self, setup: TrainSetup, run: RunFolder, log: RunLog) -> None:
        recipe, device = setup.recipe, device_of(setup.recipe)
        self.setup, self.recipe, self.run, self.log = setup, recipe, run, log
        self.group, self.device, self.n_steps = setup.group, device, setup.n_steps
        self.checkpoint = with_prefixes(
            with_activation(setup.start, recipe.model.activation), recipe.loss.prefixes
        )
        self.precision = choose_precision(recipe.model.precision, device)
        towers = self.towers = load_towers(self.checkpoint, device)
        set_trainable(towers, recipe.model, seed=recipe.schedule.seed)
        self.teachers = open_teachers(recipe.loss, setup.start, device, self.precision)
        self.term_weights = term_weights(recipe.loss)
        has_bias = recipe.loss.kind == "siglip"
        logit_scale = setup.start.config.logit_scale
        self.temperature = Temperature(logit_scale, has_bias=has_bias).to(device)
        self.forward = make_forward(self.checkpoint, device, self.precision)
        self.loader = self._make_loader()
        parallel = recipe.model.parallel
        self.model: nn.Module = distributed.parallelize(towers, self.group, parallel=parallel)
        weights = trainable_weights(self.model)
        if not weights:
            message = "no weights are trained; set model.freeze to none, vision or text"
            raise TrainingError(message)
        self.prompts = open_prompts(setup.source, setup.split.train.tolist(), recipe)
        self.patch_head: PatchHead | None = None
        if (targets := self.loader.patch_targets) is not None:
            head = PatchHead(self.checkpoint.config.vision.width, targets.shape[2])
            self.patch_head = head.to(device)
            named = self.patch_head.named_parameters()
            weights |= {f"patch_head.{name}": weight for name, weight in named}
        optimizer = make_optimizer(
            weights.items(), self.temperature.parameters(), self.checkpoint.config, recipe.optimizer
        )
        average = None
        if recipe.optimizer.ema:
            average = {name: weight.detach().clone() for name, weight in weights.items()}
        self.state = TrainState(weights, self.temperature, optimizer, average)

    def train(self, on_checkpoint: OnCheckpoint | None) -> Outcome:
        """Take the remaining steps.

        Raises:
            TrainingError: the loss is no longer finite.
        """
        self._resume()
        state, schedule = self.state, self.recipe.schedule
        checkpoint_every = schedule.checkpoint_every or self.loader.steps_per_epoch
        status, loss = "finished", math.nan
        with self._batches() as batches:
            while state.step < self.n_steps and status == "finished":
                begun = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - begun
                loss, figures = self._step(batch)
                state.step += 1
                seconds = time.perf_counter() - begun
                is_last = state.step == self.n_steps
                figures = {
                    "epoch": state.step / self.loader.steps_per_epoch,
                    "loss": loss,
                    **figures,
                    "samples_per_s": self.setup.batch_size / seconds,
                    "data_share": waited / seconds,
                }
                is_logged = is_last or state.step % schedule.log_every == 0
                self.log.step(state.step, self.n_steps, figures, is_logged=is_logged)
                if state.step % checkpoint_every == 0 or is_last:
                    if not self._save_checkpoint(on_checkpoint, is_last=is_last):
                        status = "stopped early"
                elif state.step % schedule.state_every == 0:
                    self._save_state()
        if self.group.is_first:
            write_facts(self.run, status=status, steps=state.step, precision=self.precision)
        distributed.barrier()
        return Outcome(state.step, loss, status)

    def _step(self, batch: Batch) -> tuple[float, dict[str, float]]:
        """Compute the gradients of a batch, and update the weights."""
        recipe, state = self.recipe, self.state
        lr = lr_at(state.step, self.n_steps, recipe.optimizer)
        set_lr(state.optimizer, lr)
        state.optimizer.zero_grad(set_to_none=True)
        inputs = make_inputs(batch, self.checkpoint, self.device)
        targets = make_targets(
            batch,
            recipe.loss,
            device=self.device,
            group=self.group,
            teachers=teacher_features(self.teachers, inputs, self.group),
        )

        def loss_of(images: Tensor, texts: Tensor, patches: Tensor | None = None) -> Tensor:
            features = gather_features(images, texts, self.temperature, self.group)
            has_changed = len(batch.changed_rows) > 0
            more = replace(
                targets,
                prompts=self._prompt_targets(batch),
                patches=patches,
                changed_rows=torch.from_numpy(batch.changed_rows).to(self.device),
                changed_texts=self._encode_texts(batch.changed_tokens) if has_changed else None,
            )
            prefixes = recipe.loss.prefixes
            return total_loss(features, more, self.term_weights, prefixes=prefixes)

        if self.patch_head is None:
            chunk_size = min(recipe.schedule.chunk_size, len(inputs))
            loss = backward(self.model, inputs, self.forward, loss_of, chunk_size=chunk_size)
        else:
            assert batch.patch_targets is not None
            vectors, states = self.forward.encode_with_patches(self.towers, inputs)
            wanted = torch.from_numpy(batch.patch_targets).to(self.device)
            loss = loss_of(*vectors, self.patch_head(states, wanted))
            loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
        distributed.average(loss, *(p.grad for p in self.temperature.parameters()))
        weights = list(state.weights.values())
        is_half = self.precision == "float16"
        if is_half:
            round_to_half(weights, gradients=True)
        max_norm = recipe.optimizer.clip_norm
        found = clip_grad_norm_([*weights, *self.temperature.parameters()], max_norm)
        norm = float(found.full_tensor() if isinstance(found, DTensor) else found)  # before
        self._check_finite(float(loss), norm)
        state.optimizer.step()
        if is_half:
            round_to_half(weights, gradients=False)
        self.temperature.clamp(recipe.loss.max_scale)
        if state.average is not None:
            update_ema(state.average, state.weights, recipe.optimizer.ema, state.step)
        return float(loss), {"logit_scale": self.temperature.scale, "lr": lr, "gradient_norm": norm}

    def _prompt_targets(self, batch: Batch) -> list[PromptTargets]:
        """The prompts of this step: their text vectors, with a graph, and the images' labels."""
        if not self.prompts:
            return []
        rng = np.random.default_rng((self.recipe.schedule.seed, self.state.step, 2))
        some, texts = sample_prompts(self.prompts, rng)
        tokens = self.checkpoint.tokenizer.encode([text for one in texts for text in one])
        vectors = self._encode_texts(tokens)
        rows = np.array([self.setup.source[int(row)].row - 1 for row in batch.rows])
        return [
            to_targets(one, part, prompt_labels(one, batch, rows))
            for one, part in zip(some, torch.split(vectors, [len(t) for t in texts]), strict=True)
        ]

    def _encode_texts(self, tokens: np.ndarray) -> Tensor:
        """Unit vectors of further texts, with a graph."""
        inputs = text_inputs(tokens, self.checkpoint, self.device)
        return self.forward.encode_texts(self.towers, *inputs)

    def _check_finite(self, loss: float, norm: float) -> None:
        """Stop before an update that would destroy the weights.

        Raises:
            TrainingError: the loss, or the gradient's norm, is not finite.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            return
        step = self.state.step + 1
        what = "loss" if not math.isfinite(loss) else "gradient"
        self.log.event("not a number", step=step, what=what)
        if self.group.is_first:
            write_facts(self.run, status="failed", steps=self.state.step)
        saved = list(self.run.checkpoints().values())
        last = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
        message = (
            f"the {what} of step {step} is not a number; {last}. Lower optimizer.lr, raise "
            "optimizer.warmup_steps, or set optimizer.clip_norm = 1.0, and start a new run"
        )
        raise TrainingError(message)

    def _resume(self) -> None:
        """Load the last whole state, if there is any."""
        problems = load_state(self.run.states, self.state)
        if self.group.is_first:
            drop_log_after(self.run, self.state.step)
        for problem in problems:
            self.log.event("state broken", reason=problem)
        if self.state.step:
            self.log.event("resumed", step=self.state.step, processes=self.group.size)
        elif self.temperature.logit_bias is not None:
            self._fit_bias(self.temperature.logit_bias)

    def _fit_bias(self, logit_bias: nn.Parameter) -> None:
        with self._batches() as batches, torch.no_grad():
            inputs = make_inputs(next(batches), self.checkpoint, self.device)
            vectors = self.forward.encode(self.model, inputs)
            features = gather_features(*vectors, self.temperature, self.group)
            scale = self.temperature.scale
            logit_bias.fill_(fit_bias(features.all_images, features.all_texts, scale))

    def _save_checkpoint(self, on_checkpoint: OnCheckpoint | None, *, is_last: bool) -> bool:
        """Write a checkpoint and a state; returns whether the run continues.

        Raises:
            TrainingError: the last checkpoint of the run cannot be written.
        """
        state, step, continues = self.state, self.state.step, True
        averaged = state.weights if state.average is None else state.average
        weights = whole_weights(averaged, keep=self.group.is_first)
        if self.group.is_first:
            folder = self.run.checkpoint(step)
            try:
                save_weights(
                    self.checkpoint,
                    weights,
                    self.temperature.logit_scale,
                    folder,
                    lora_rank=self.recipe.model.lora_rank,
                )
            except CheckpointError as exc:
                self.log.event("checkpoint not saved", step=step, reason=str(exc))
                if is_last:
                    raise TrainingError(str(exc)) from exc
            else:
                self.log.event("checkpoint", step=step, folder=str(folder))
                if on_checkpoint is not None:
                    continues = on_checkpoint(step, folder)
                    self.log.scores(step)
        self._save_state()
        return distributed.broadcast(continues)

    def _save_state(self) -> None:
        """Write a state; a full disk costs the state, not the run."""
        try:
            save_state(self.run.states, self.state)
        except OSError as exc:
            reason = exc.strerror or str(exc)
            self.log.event("state not saved", step=self.state.step, reason=reason)

    def _make_loader(self) -> Loader:
        rejects = RunRejects(self.run)

        def on_reject(reject: Reject) -> None:
            rejects.add(reject)
            self.log.reject()

        vision = self.checkpoint.config.vision
        return Loader(
            self.setup.source,
            self.setup.split.train,
            self.recipe,
            batch_size=self.setup.batch_size,
            tokenizer=self.checkpoint.tokenizer,
            preprocess=self.checkpoint.preprocess,
            n_patches=(vision.image_px // vision.patch_px) ** 2,
            group=self.group,
            on_reject=on_reject,
        )

    def _batches(self) -> AbstractContextManager[Iterator[Batch]]:
        return closing(self.loader.iter_batches(self.state.step))
