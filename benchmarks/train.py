"""Speed of a training step against a plain float32 loop in the same run, and the time for data.

The plain loop is ``CLIPModel`` of transformers in float32 with PyTorch's AdamW and texts padded to
77 tokens. The model is a ViT-B/32 with random weights (FashionCLIP's size), so nothing is
downloaded. The methods take turns on the same batch; rates and ratios are medians over the rounds.
The share of the peak is that of a large matrix product of the same precision, timed in this run.
The second part trains the built-in model and prints the share of the time that waits for data: in
the first epoch, which decodes the images, and in later ones, which do not.

    python benchmarks/train.py
    python benchmarks/train.py --batch 32 --rounds 5
    python benchmarks/train.py --catalog kaggle-folder/    # images of your own
    python benchmarks/train.py --batch 256 --compile       # on a GPU
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers
from encode import print_machine, take_turns, write_vit_b_32
from torch.utils.flop_counter import FlopCounterMode

from fashionclip.checkpoint import Checkpoint, open_checkpoint
from fashionclip.sample import write_sample_catalog
from fashionclip.train.data import DataSource, open_data
from fashionclip.train.distributed import SINGLE_PROCESS
from fashionclip.train.loader import Batch, Loader
from fashionclip.train.loss import Temperature, gather_features, info_nce, make_targets
from fashionclip.train.model import (
    choose_device,
    choose_precision,
    load_towers,
    make_forward,
    make_inputs,
    set_trainable,
    trainable_weights,
)
from fashionclip.train.optimizer import backward, make_optimizer
from fashionclip.train.recipe import (
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    make_recipe,
    read_recipe,
)

LR = 1e-5


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    device = choose_device("auto")
    print_machine()
    if device.type == "cuda":
        print(f"GPU: {torch.cuda.get_device_name()}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        catalog = arguments.catalog
        if catalog is None:
            catalog = str(write_sample_catalog(folder / "shop", n_products=arguments.n_products))
        compare_step(folder, catalog, device, arguments)
        measure_loading(catalog, device, arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--catalog", help="table or folder; default: the sample catalogue")
    parser.add_argument(
        "--n-products", type=int, default=512, help="products of the sample catalogue"
    )
    parser.add_argument("--batch", type=int, default=16, help="batch size of the comparison")
    parser.add_argument("--rounds", type=int, default=3, help="how often each method is timed")
    parser.add_argument("--steps", type=int, default=12, help="steps of the built-in model")
    parser.add_argument("--compile", action="store_true", help="also with model.compile")
    parser.add_argument("--threads", type=int, help="threads of PyTorch; default: PyTorch's choice")
    return parser.parse_args()


def compare_step(
    folder: Path, catalog: str, device: torch.device, arguments: argparse.Namespace
) -> None:
    """A step of a ViT-B/32: forward, backward and AdamW, in float32 and the machine's precision."""
    checkpoint = write_vit_b_32(folder / "vit-b-32")
    recipe = make_recipe({"data": {"catalog": catalog}}, place="the benchmark")
    batch = first_batch(recipe, checkpoint, arguments.batch)
    best_precision = choose_precision("auto", device)
    methods = {"plain loop, float32, texts padded to 77": plain_step(checkpoint, batch, device)}
    n_flops, peaks = 0, {}
    for precision in dict.fromkeys(("float32", best_precision)):
        for is_compiled in (False, True)[: 1 + arguments.compile]:
            config = ModelConfig(compile=is_compiled)
            step = fashionclip_step(checkpoint, device, precision, config)
            if not n_flops:
                with FlopCounterMode(display=False) as counter:
                    step(batch)
                n_flops = counter.get_total_flops()
            name = f"fashionclip, {precision}{', compiled' if is_compiled else ''}"
            methods[name] = lambda step=step: step(batch)
            peaks[name] = matmul_rate(device, precision)
    seconds = take_turns(methods, arguments.rounds)
    tokens = batch.tokens.shape[1]
    print(f"\nOne step of ViT-B/32, batch {arguments.batch}, longest text {tokens} tokens")
    plain = next(iter(seconds.values()))
    for name, turns in seconds.items():
        ratio = statistics.median(
            reference / own for reference, own in zip(plain, turns, strict=True)
        )
        rate = arguments.batch / statistics.median(turns)
        share = n_flops / statistics.median(turns) / peaks[name] if name in peaks else None
        peak = f"  {share:4.0%} of {peaks[name] / 1e12:.3g} TFLOP/s" if share else ""
        print(f"  {name:<42} {rate:8.2f} samples/s  x {ratio:.2f}{peak}")
    if best_precision == "float32":
        print("  (this processor has no bfloat16, so precision auto is float32)")


def matmul_rate(device: torch.device, precision: str) -> float:
    """The rate of a large matrix product, in operations per second: the best of several."""
    size = 8_192 if device.type == "cuda" else 1_024
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        left @ right
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def plain_step(checkpoint: Checkpoint, batch: Batch, device: torch.device) -> Callable[[], None]:
    model = transformers.CLIPModel.from_pretrained(checkpoint.folder).to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LR, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2
    )
    pre = checkpoint.preprocess
    mean, std = (torch.tensor(rgb, device=device) * 255 for rgb in (pre.mean, pre.std))
    pixels = (torch.from_numpy(batch.pixels).to(device).float() - mean) / std
    pixels = pixels.permute(0, 3, 1, 2).contiguous()
    padded = np.full((len(batch.tokens), 77), checkpoint.tokenizer.end_id, np.int64)
    padded[:, : batch.tokens.shape[1]] = batch.tokens
    tokens = torch.from_numpy(padded).to(device)

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=tokens, pixel_values=pixels, return_loss=True).loss.backward()
        optimizer.step()
        synchronize(device)

    return step


def fashionclip_step(
    checkpoint: Checkpoint, device: torch.device, precision: str, config: ModelConfig
) -> Callable[[Batch], None]:
    towers = load_towers(checkpoint, device)
    set_trainable(towers, config, seed=0)
    temperature = Temperature(checkpoint.config.logit_scale, has_bias=False).to(device)
    weights = trainable_weights(towers).items()
    optimizer = make_optimizer(
        weights, temperature.parameters(), checkpoint.config, OptimizerConfig()
    )
    forward = make_forward(checkpoint, device, precision)

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        targets = make_targets(batch, LossConfig(), device=device)

        def loss_of(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
            return info_nce(gather_features(images, texts, temperature, SINGLE_PROCESS), targets)

        backward(towers, make_inputs(batch, checkpoint, device), forward, loss_of, chunk_size=0)
        optimizer.step()
        synchronize(device)

    return step


def measure_loading(catalog: str, device: torch.device, arguments: argparse.Namespace) -> None:
    """Print the share of the built-in model's training time that waits for data."""
    recipe = read_recipe("builtin", {("data", "catalog"): catalog})
    checkpoint = open_checkpoint()
    pairs = open_data(recipe.data)
    batch_size = min(recipe.schedule.batch_size, len(pairs) // 4)
    loader = loader_of(pairs, recipe, checkpoint, batch_size)
    batches = loader.iter_batches(0)
    precision = choose_precision("auto", device)
    step = fashionclip_step(checkpoint, device, precision, ModelConfig())
    step(next(batches))
    print(f"\nThe built-in model, batch {batch_size}, {len(pairs):,} pairs, recipe builtin")
    n_first = min(arguments.steps, loader.steps_per_epoch - 1)
    for name, n_steps, n_skipped in (
        ("first epoch, decoding", n_first, loader.steps_per_epoch - n_first),
        ("later epochs", arguments.steps, 0),
    ):
        waited = total = 0.0
        for _ in range(n_steps):
            started = time.perf_counter()
            batch = next(batches)
            loaded = time.perf_counter()
            step(batch)
            waited += loaded - started
            total += time.perf_counter() - started
        for _ in range(n_skipped):
            next(batches)
        print(
            f"  {name:<24} {batch_size * n_steps / total:8.1f} samples/s, "
            f"{waited / total:.1%} of the time waiting for data"
        )
    batches.close()


def first_batch(recipe: Recipe, checkpoint: Checkpoint, size: int) -> Batch:
    batches = loader_of(open_data(recipe.data), recipe, checkpoint, size).iter_batches(0)
    batch = next(batches)
    batches.close()
    return batch


def loader_of(pairs: DataSource, recipe: Recipe, checkpoint: Checkpoint, size: int) -> Loader:
    vision = checkpoint.config.vision
    return Loader(
        pairs,
        np.arange(len(pairs)),
        recipe,
        batch_size=size,
        tokenizer=checkpoint.tokenizer,
        preprocess=checkpoint.preprocess,
        n_patches=(vision.image_px // vision.patch_px) ** 2,
    )


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
