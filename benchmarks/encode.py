"""Speed of encoding images and texts, compared with transformers in the same run.

The baseline is ``CLIPImageProcessor`` and ``CLIPModel`` in float32, with batches of 32 and texts
padded to 77 tokens. The model is a ViT-B/32 with random weights (FashionCLIP's size), so nothing is
downloaded. The methods take turns in each round; rates and ratios are medians over the rounds.
Rates of two runs cannot be compared, because the load of the machine differs.

    python benchmarks/encode.py                    # generated sample images
    python benchmarks/encode.py --images photos/   # your own JPEGs
"""

import argparse
import io
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

from fashionclip.checkpoint import Checkpoint, open_checkpoint
from fashionclip.engines import open_engine
from fashionclip.engines.graph import op, ov
from fashionclip.engines.openvino import precisions_here
from fashionclip.images.decode import preprocess
from fashionclip.model import FashionCLIP
from fashionclip.sample import write_sample_catalog

BATCH = 32
LARGE_PX = (1080, 1440)
QUERIES = (
    "blue denim jeans",
    "red dress with long sleeves",
    "white sneakers",
    "striped cotton shirt for men",
    "black leather handbag",
    "green jacket",
    "women's summer sandals with a low heel",
    "grey wool sweater",
)


@dataclass
class Method:
    """A function from inputs to vectors, and its name."""

    name: str
    encode: Callable[[Sequence], np.ndarray]


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print_machine()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = find_images(
            arguments.images, folder / "sample", arguments.n_images + arguments.calibration
        )
        files = images[arguments.calibration :]
        calibration = [file.read_bytes() for file in images[: arguments.calibration]]
        checkpoint = write_vit_b_32(folder / "vit-b-32")
        large = enlarge(files, folder / "large")
        sets = {"as they are": files, "enlarged": large}
        images_end_to_end(checkpoint, sets, calibration, arguments.rounds)
        builtin_end_to_end(checkpoint, files, arguments.rounds)
        engine_alone(checkpoint, files, calibration, arguments.rounds)
        reduced_decoding(checkpoint, large)
        texts(checkpoint, arguments.rounds)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--images", type=Path, help="folder of JPEGs; default: the sample catalogue"
    )
    parser.add_argument("--n-images", type=int, default=64, help="number of images")
    parser.add_argument(
        "--calibration", type=int, default=64, help="number of other images, to calibrate int8"
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each method is timed")
    parser.add_argument("--threads", type=int, help="threads of PyTorch; default: PyTorch's choice")
    return parser.parse_args()


def images_end_to_end(
    checkpoint: Checkpoint,
    sets: dict[str, list[Path]],
    calibration: list[bytes],
    rounds: int,
) -> None:
    methods = [Method("transformers, float32", transformers_image_encoder(checkpoint))]
    for precision in float_precisions():
        model = FashionCLIP.from_pretrained(checkpoint.folder, device="cpu", precision=precision)
        methods.append(Method(f"fashionclip, {precision}", model.encode_images))
    int8 = FashionCLIP.from_pretrained(
        checkpoint.folder, device="cpu", precision="int8", calibration=calibration
    )
    methods.append(Method("fashionclip, int8", int8.encode_images))
    for name, files in sets.items():
        size = "x".join(map(str, Image.open(files[0]).size))
        print(f"\nImages from files, {name} ({size}, {len(files)} files), end to end")
        report(methods, files, rounds, unit="images/s")


def builtin_end_to_end(checkpoint: Checkpoint, files: list[Path], rounds: int) -> None:
    """The built-in model beside the ViT-B/32, both by this package."""
    print(f"\nImages from files by the built-in model ({len(files)} files), end to end")
    for precision in float_precisions():
        builtin, large = (
            FashionCLIP.from_pretrained(folder, device="cpu", precision=precision)
            for folder in ("builtin", checkpoint.folder)
        )
        turns = take_turns(
            {
                "builtin": lambda m=builtin: m.encode_images(files),
                "large": lambda m=large: m.encode_images(files),
            },
            rounds,
        )
        rate = len(files) / statistics.median(turns["builtin"])
        ratio = median_ratio(turns["large"], turns["builtin"])
        name = f"built-in model, {precision}"
        print(f"  {name:<36} {rate:7.1f} images/s  x {ratio:5.2f} of ViT-B/32's")


def engine_alone(
    checkpoint: Checkpoint, files: list[Path], calibration: list[bytes], rounds: int
) -> None:
    """Arithmetic throughput, compared with a large matrix product in the same precision."""
    pre = checkpoint.preprocess
    batch = np.stack([preprocess(file.read_bytes(), pre) for file in files[:BATCH]])
    calibration_pixels = np.stack([preprocess(data, pre) for data in calibration])
    flop_engine = flop_per_image(checkpoint) * len(batch)
    jobs: dict[str, tuple[float, Callable[[], object]]] = {}
    for precision in (*float_precisions(), "int8"):
        engine = open_engine(
            checkpoint, device="cpu", precision=precision, calibration=calibration_pixels
        )
        jobs[f"engine, {precision}"] = (flop_engine, lambda e=engine: e.encode_pixels(batch))
    for precision in float_precisions():
        for size in (2048, 4096):
            jobs[f"product of {size} x {size}, OpenVINO {precision}"] = (
                2.0 * size**3,
                openvino_product(size, precision),
            )
    half = torch.randn(4096, 4096).to(torch.bfloat16)
    jobs["product of 4096 x 4096, PyTorch bfloat16"] = (2.0 * 4096**3, lambda: half @ half)
    turns = take_turns({name: job for name, (_, job) in jobs.items()}, rounds)
    # the shortest time is the least affected by other programs
    rates = {name: flop / min(turns[name]) / 1e9 for name, (flop, _) in jobs.items()}
    gflop = flop_engine / len(batch) / 1e9
    print(f"\nEngine alone, batch {len(batch)}, {gflop:.2f} GFLOP per image, best round of each")
    for name, rate in rates.items():
        print(f"  {name:<44} {rate:8.0f} GFLOP/s")
    for precision in float_precisions():
        peak = max(
            rate
            for name, rate in rates.items()
            if name.startswith("product") and name.endswith(precision)
        )
        share = rates[f"engine, {precision}"] / peak
        print(f"  the engine's rate over that of the fastest {precision} product: {share:.0%}")


def reduced_decoding(checkpoint: Checkpoint, files: list[Path]) -> None:
    """The effect of decoding large JPEGs at reduced size on their vectors."""
    pre, engine = checkpoint.preprocess, open_engine(checkpoint, device="cpu", precision="float32")
    reduced = np.stack([preprocess(file.read_bytes(), pre) for file in files])
    full = np.stack([preprocess(Image.open(file), pre) for file in files])
    cosines = (engine.encode_pixels(reduced) * engine.encode_pixels(full)).sum(axis=1)
    print(
        f"\nJPEGs decoded at reduced size against full size ({len(files)} enlarged files): cosine "
        f"min {cosines.min():.6f}, mean {cosines.mean():.6f}"
    )


def texts(checkpoint: Checkpoint, rounds: int) -> None:
    queries = [f"{query} {i}" for i in range(8) for query in QUERIES]
    methods = [Method("transformers, float32, padded to 77", transformers_text_encoder(checkpoint))]
    for precision in float_precisions():
        model = FashionCLIP.from_pretrained(checkpoint.folder, device="cpu", precision=precision)
        methods.append(Method(f"fashionclip, {precision}", model.encode_text))
    print(f"\nShort queries ({len(queries)} texts)")
    report(methods, queries, rounds, unit="texts/s")
    single = take_turns({"single": lambda: methods[-1].encode(queries[:1])}, 20)["single"]
    print(f"  a single query: {statistics.median(single) * 1e3:.1f} ms")


def transformers_image_encoder(checkpoint: Checkpoint) -> Callable[[Sequence[Path]], np.ndarray]:
    processor = transformers.CLIPImageProcessor.from_pretrained(checkpoint.folder)
    model = transformers.CLIPModel.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode(files: Sequence[Path]) -> np.ndarray:
        features = []
        for start in range(0, len(files), BATCH):
            images = [Image.open(file).convert("RGB") for file in files[start : start + BATCH]]
            inputs = processor(images=images, return_tensors="pt")
            features.append(unit(model.get_image_features(**inputs)))
        return np.concatenate(features)

    return encode


def transformers_text_encoder(checkpoint: Checkpoint) -> Callable[[Sequence[str]], np.ndarray]:
    tokenizer = transformers.CLIPTokenizer.from_pretrained(checkpoint.folder)
    model = transformers.CLIPModel.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode(queries: Sequence[str]) -> np.ndarray:
        features = []
        for start in range(0, len(queries), BATCH):
            inputs = tokenizer(
                list(queries[start : start + BATCH]),
                padding="max_length",
                max_length=77,
                truncation=True,
                return_tensors="pt",
            )
            features.append(unit(model.get_text_features(**inputs)))
        return np.concatenate(features)

    return encode


def report(methods: list[Method], inputs: Sequence, rounds: int, *, unit: str) -> None:
    """Time the methods in turns; print rates, and ratios and cosines to the first method."""
    vectors = {method.name: method.encode(inputs) for method in methods}
    turns = take_turns(
        {method.name: lambda m=method: m.encode(inputs) for method in methods}, rounds
    )
    baseline = vectors[methods[0].name]
    cosine_between_inputs = (baseline[:-1] * baseline[1:]).sum(axis=1).mean()
    for method in methods:
        rate = len(inputs) / statistics.median(turns[method.name])
        ratio = median_ratio(turns[methods[0].name], turns[method.name])
        cosines = (vectors[method.name] * baseline).sum(axis=1)
        print(
            f"  {method.name:<36} {rate:7.1f} {unit}  x {ratio:5.2f}  "
            f"cosine min {cosines.min():.5f} mean {cosines.mean():.5f}"
        )
    print(f"  (cosine of different inputs, for comparison: {cosine_between_inputs:.3f})")


def median_ratio(reference: Sequence[float], own: Sequence[float]) -> float:
    """How many times as fast; within a round a slow moment of the machine affects both times."""
    return statistics.median(a / b for a, b in zip(reference, own, strict=True))


def take_turns(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each job in each round; every round runs all of them once."""
    for job in jobs.values():
        job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def openvino_product(size: int, precision: str) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    parameter = op.parameter([size, size], np.float32)
    product = op.matmul(parameter, op.constant(right), False, True)
    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = ov.Core().compile_model(ov.Model([product], [parameter]), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(left, shared_memory=True))
    return request.infer


def flop_per_image(checkpoint: Checkpoint) -> float:
    """Multiplications and additions of the image tower."""
    vision = checkpoint.config.vision
    patches = (vision.image_px // vision.patch_px) ** 2
    tokens, width = patches + 1, vision.width
    linear = 4 * width * width + 2 * width * vision.mlp_width
    layer = 2 * tokens * linear + 4 * tokens * tokens * width
    # the last layer needs keys and values of all tokens, and everything else of the first one only
    last = 2 * tokens * 2 * width * width + 2 * (linear - 2 * width * width) + 4 * tokens * width
    first = 2 * patches * 3 * vision.patch_px**2 * width
    return float(
        first + (vision.layers - 1) * layer + last + 2 * width * checkpoint.config.projection_dim
    )


def float_precisions() -> tuple[str, ...]:
    """Precisions of this CPU, except float16."""
    return tuple(p for p in precisions_here() if p != "float16")


def unit(features: object) -> np.ndarray:
    tensor = features if torch.is_tensor(features) else features.pooler_output
    return torch.nn.functional.normalize(tensor, dim=-1).numpy()


def write_vit_b_32(folder: Path) -> Checkpoint:
    """Write a ViT-B/32 with the built-in tokenizer.

    The random weights are large enough that vectors of different images differ.
    """
    tokenizer = open_checkpoint().tokenizer
    ends = {"bos_token_id": tokenizer.start_id, "eos_token_id": tokenizer.end_id}
    config = transformers.CLIPConfig(text_config={**ends, "pad_token_id": tokenizer.end_id})
    torch.manual_seed(0)
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "embedding" not in name:
                weight.mul_(3.0)
            elif name.endswith("bias"):
                weight.normal_(std=0.1)
    model.save_pretrained(folder)
    transformers.CLIPImageProcessor().save_pretrained(folder)
    for name, content in tokenizer.files().items():
        (folder / name).write_text(content, encoding="utf-8")
    return open_checkpoint(folder)


def find_images(images: Path | None, scratch: Path, count: int) -> list[Path]:
    """JPEGs at regular steps of a folder, or those of the sample catalogue."""
    if images is None:
        write_sample_catalog(scratch, n_products=count)
        images = scratch
    files = sorted(file for file in images.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg"})
    step = max(1, len(files) // count)
    return files[::step][:count]


def enlarge(files: list[Path], folder: Path) -> list[Path]:
    """Write the same images as JPEGs of a camera's size."""
    folder.mkdir()
    enlarged = []
    for i_file, file in enumerate(files):
        image = Image.open(file).convert("RGB").resize(LARGE_PX, Image.Resampling.LANCZOS)
        target = folder / f"{i_file}.jpg"
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        target.write_bytes(buffer.getvalue())
        enlarged.append(target)
    return enlarged


def print_machine() -> None:
    name, flags = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(
            line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line
        )
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        name = fields.get("model name", name)
        flags = fields.get("flags", fields.get("Features", ""))
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    have = " ".join(flag for flag in wanted if flag in flags.split()) or "none of the listed ones"
    print(f"CPU: {name}; flags: {have}; threads: {torch.get_num_threads()}")
    print(
        f"Python {platform.python_version()}, openvino {ov.__version__.split('-')[0]}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()
