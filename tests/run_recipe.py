"""Train by a recipe, alone or under torchrun, for test_train_run."""

import argparse
import os
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

from fashionclip.errors import TrainingError
from fashionclip.train.loop import train
from fashionclip.train.recipe import read_recipe
from fashionclip.train.run import RunFolder


def main() -> None:
    """Train, and exit as the command line does, or like a killed process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("run", type=Path)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument(
        "--hold", action="append", nargs=2, default=[], help="STEP FILE: wait there for the file"
    )
    parser.add_argument("--largest-file", type=int, help="bytes, from the first step on")
    arguments = parser.parse_args()

    def watch(progress) -> None:
        if progress.step == 1 and arguments.largest_file:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # what is left is an error of the write
            resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.largest_file,) * 2)
        for step, file in arguments.hold:
            while progress.step == int(step) and not Path(file).exists():
                time.sleep(0.1)
        if progress.step == arguments.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    recipe = read_recipe(arguments.recipe)
    try:
        train(recipe, RunFolder(arguments.run), on_progress=watch)
    except TrainingError as error:
        raise SystemExit(f"error: {error}") from error
    # PyTorch's own caches keep the groups of shards
    if recipe.model.parallel == "ddp" and any("gloo" in name for name in thread_names()):
        raise SystemExit("error: gloo's threads outlive the run, and may abort Python's exit")


def thread_names() -> list[str]:
    """Names of this process's threads, by Linux."""
    names = []
    for task in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has just ended
            names.append(task.read_text(encoding="utf-8"))
    return names


if __name__ == "__main__":
    main()
