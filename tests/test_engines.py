"""Both engines agree with transformers in every precision, and name what they do not support."""

import dataclasses
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.checkpoint import Checkpoint, open_checkpoint
from fashionclip.engines import Engine, open_engine
from fashionclip.engines.graph import (
    MAX_WEIGHT_WITHOUT_VNNI,
    activation_range,
    quantize_weight,
)
from fashionclip.engines.io import end_positions, fold_normalisation
from fashionclip.engines.openvino import OpenVINOEngine, precisions_here
from fashionclip.errors import EngineError
from random_clip import write_checkpoint

DEVICES = ("cpu", "torch-cpu")
BUILDS = {
    "quick_gelu": {},
    "gelu": {"activation": "gelu"},
    "legacy end of text": {"legacy_end_of_text": True},
}


@pytest.fixture(scope="module", params=BUILDS)
def checkpoint(request, tmp_path_factory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    return open_checkpoint(write_checkpoint(folder, **BUILDS[request.param]))


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint) -> Checkpoint:
    return open_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module", params=DEVICES)
def engine(request, tiny) -> Engine:
    return open_engine(tiny, device=request.param, precision="float32")


def random_pixels(count: int, size_px: int = 32, *, seed: int = 0) -> np.ndarray:
    """Smooth random images: those of pure noise have nearly the same vector in a random model."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(cells, size_px // 4, axis=1), size_px // 4, axis=2)


def sentences(checkpoint: Checkpoint, *, pad_to: int | None = None) -> np.ndarray:
    texts = ["red striped t-shirt", "", "white leather sneakers " * 40, "jeans", "ein Hemd"]
    return checkpoint.tokenizer.encode(texts, pad_to=pad_to)


def reference(checkpoint: Checkpoint, pixels: np.ndarray, tokens: np.ndarray):
    """Unit vectors of both kinds by ``transformers.CLIPModel`` in float32."""
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()
    pre = checkpoint.preprocess
    values = (pixels / 255.0 - np.array(pre.mean)) / np.array(pre.std)
    with torch.inference_mode():
        found = model(
            pixel_values=torch.tensor(values.transpose(0, 3, 1, 2), dtype=torch.float32),
            input_ids=torch.tensor(tokens, dtype=torch.int64),
        )
    return found.image_embeds.numpy(), found.text_embeds.numpy()


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum(axis=1).min())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pad_to", [None, 77], ids=["longest", "77"])
def test_an_engine_agrees_with_transformers(checkpoint, device, pad_to):
    engine = open_engine(checkpoint, device=device, precision="float32")
    pixels, tokens = random_pixels(5), sentences(checkpoint, pad_to=pad_to)
    image_vectors, text_vectors = reference(checkpoint, pixels, tokens)
    np.testing.assert_allclose(engine.encode_pixels(pixels), image_vectors, atol=1e-5)
    np.testing.assert_allclose(engine.encode_tokens(tokens), text_vectors, atol=1e-5)
    assert least_cosine(image_vectors[:1], image_vectors[1:2]) < 0.99, "the test tells too little"
    assert least_cosine(text_vectors[:1], text_vectors[3:4]) < 0.99, "the test tells too little"


def test_vectors_are_float32_and_of_length_one(engine, tiny):
    for vectors in (engine.encode_pixels(random_pixels(3)), engine.encode_tokens(sentences(tiny))):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == engine.dim == tiny.config.projection_dim
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


@given(cut=st.integers(0, 40))
@settings(max_examples=8)
def test_an_image_does_not_depend_on_its_batch(engine, cut):
    pixels = random_pixels(40)
    parts = [engine.encode_pixels(pixels[:cut]), engine.encode_pixels(pixels[cut:])]
    np.testing.assert_allclose(np.concatenate(parts), engine.encode_pixels(pixels), atol=1e-5)


def test_a_text_does_not_depend_on_its_batch(engine, tiny):
    together = engine.encode_tokens(sentences(tiny))
    for i_text, tokens in enumerate(sentences(tiny)):
        alone = engine.encode_tokens(tokens[None])
        np.testing.assert_allclose(alone[0], together[i_text], atol=1e-5)


@pytest.mark.parametrize("longest", [2, 5, 11, 16])
def test_so_many_texts_of_such_a_length_are_as_they_are_one_by_one(tiny, longest):
    """On CPUs texts are padded to a few shapes, up to the context length."""
    engine = OpenVINOEngine(tiny)
    words = np.random.default_rng(longest).integers(1, 90, size=(19, longest)).astype(np.int32)
    words[:, -1] = tiny.tokenizer.end_id
    alone = np.concatenate([engine.encode_tokens(words[i : i + 1]) for i in range(len(words))])
    for n in (1, 3, 7, 8, 9, 16, 19):
        assert engine.encode_tokens(words[:n]) == pytest.approx(alone[:n], abs=1e-5)


def test_what_follows_the_end_of_a_text_has_no_effect(engine, tiny):
    tokens = sentences(tiny, pad_to=77)
    other = tokens.copy()
    for row, end in enumerate(end_positions(tokens, tiny.config)):
        other[row, end + 1 :] = 5
    np.testing.assert_array_equal(engine.encode_tokens(tokens), engine.encode_tokens(other))


def test_no_images_and_no_texts_give_no_vectors(engine):
    assert engine.encode_pixels(random_pixels(0)).shape == (0, engine.dim)
    assert engine.encode_tokens(np.zeros((0, 7), np.int32)).shape == (0, engine.dim)


def test_calls_from_several_threads_do_not_mix(engine):
    pixels = random_pixels(24)
    expected = engine.encode_pixels(pixels)
    found = {}

    def encode(start: int) -> None:
        found[start] = engine.encode_pixels(pixels[start : start + 3])

    threads = [threading.Thread(target=encode, args=(start,)) for start in range(0, 24, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = np.concatenate([found[start] for start in sorted(found)])
    np.testing.assert_allclose(together, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((1, 32, 32, 3), np.float32), "pixels are float32"),
        (np.zeros((1, 16, 16, 3), np.uint8), r"takes uint8 \(n, 32, 32, 3\)"),
    ],
)
def test_wrong_pixels_are_refused(tiny, pixels, message):
    from fashionclip.engines.io import check_pixels

    with pytest.raises(ValueError, match=message):
        check_pixels(pixels, tiny.config.vision.image_px)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros((1, 78), np.int32), "1 to 77 tokens"),
        (np.full((1, 4), 100_000, np.int32), "outside the vocabulary"),
        (np.full((1, 4), -1, np.int32), "outside the vocabulary"),
    ],
)
def test_wrong_tokens_are_refused(engine, tokens, message):
    with pytest.raises(ValueError, match=message):
        engine.encode_tokens(tokens)


def test_an_end_is_the_highest_id_in_old_checkpoints_and_the_first_end_token_in_new(tiny):
    tokens = np.array([[7, 9, 4, 9, 2], [7, 1, 2, 9, 9]], np.int32)
    old = dataclasses.replace(tiny.config, end_of_text="argmax")
    new = dataclasses.replace(tiny.config, end_of_text="first", end_id=2)
    assert end_positions(tokens, old).tolist() == [1, 3]
    assert end_positions(tokens, new).tolist() == [4, 2]


def test_normalisation_moves_into_the_first_layer():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((6, 3, 4, 4)).astype(np.float32)
    patch = rng.integers(0, 256, (4, 4, 3)).astype(np.float64)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    normal = (patch / 255.0 - np.array(mean)) / np.array(std)
    expected = np.einsum("ochw,hwc->o", kernel.astype(np.float64), normal)
    weights, offset = fold_normalisation(kernel, mean, std)
    np.testing.assert_allclose(weights @ (patch.ravel() - 128) + offset, expected, rtol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_keeps_the_direction(tiny, engine, precision):
    if engine.device == "cpu" and precision not in precisions_here():
        pytest.skip(f"this CPU has no {precision}")
    half = open_engine(tiny, device=engine.device, precision=precision)
    pixels, tokens = random_pixels(8), sentences(tiny)
    # rounding errors of a width of 32 average out less: for ViT-B/32 the limit below is 0.999
    assert least_cosine(half.encode_pixels(pixels), engine.encode_pixels(pixels)) > 0.995
    assert least_cosine(half.encode_tokens(tokens), engine.encode_tokens(tokens)) > 0.995


def test_int8_keeps_the_direction_and_leaves_texts_alone(tiny):
    exact = open_engine(tiny, device="cpu", precision="float32")
    whole = open_engine(tiny, device="cpu", precision="int8", calibration=random_pixels(32, seed=1))
    pixels, tokens = random_pixels(8), sentences(tiny)
    assert whole.precision == "int8"
    assert least_cosine(whole.encode_pixels(pixels), exact.encode_pixels(pixels)) > 0.98
    same = open_engine(tiny, device="cpu")
    np.testing.assert_array_equal(whole.encode_tokens(tokens), same.encode_tokens(tokens))


def test_int8_runs_in_int8(tiny):
    """In the compiled graph all linear layers of the image tower are int8, except two."""
    engine = OpenVINOEngine(tiny, precision="int8", calibration=random_pixels(8))
    compiled = engine.compile_image_tower()
    kinds = [
        node.get_rt_info()["primitiveType"].value
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].value.startswith("FullyConnected")
    ]
    n_linear = 6 * tiny.config.vision.layers
    assert sum(kind.lower().endswith("i8") for kind in kinds) == n_linear, kinds


def test_int8_without_images_says_what_to_give(tiny):
    message = "int8 needs calibration images; pass some dozens of typical ones as calibration="
    with pytest.raises(EngineError, match=message):
        open_engine(tiny, device="cpu", precision="int8")


@pytest.mark.parametrize("max_level", [127, 64])
@given(values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=8, max_size=8))
def test_quantised_weights_are_within_half_a_step(values, max_level):
    weight = np.array(values, np.float32).reshape(2, 4)
    levels, steps = quantize_weight(weight, max_level=max_level)
    assert np.abs(levels * steps - weight).max() <= steps.max() * 0.5001
    assert (np.abs(levels) <= max_level).all()


def test_two_products_of_bytes_fit_in_the_16_bits_of_a_cpu_without_vnni():
    assert 2 * 255 * MAX_WEIGHT_WITHOUT_VNNI < 2**15


def test_an_activation_range_covers_all_that_was_seen():
    low, high = np.array([-1.0, -8.0, 0.0], np.float32), np.array([2.0, 4.0, 0.0], np.float32)
    limits = activation_range(low, high, np.ones(3, np.float32))
    half_step = (limits.high - limits.low) / 255 / 2
    assert (low / limits.channels >= limits.low - half_step).all()
    assert (high / limits.channels <= limits.high + half_step).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "unknown device 'gpu'; choose from auto, cpu, cuda"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; choose from auto, float32"),
        ({"device": "cuda:77"}, "PyTorch finds no device cuda:77 here; choose from .*torch-cpu"),
        ({"device": "torch-cpu", "precision": "int8"}, "int8 runs on device='cpu' only"),
    ],
)
def test_what_is_not_to_be_had_is_said(tiny, options, message):
    with pytest.raises(EngineError, match=message):
        open_engine(tiny, **options)


def test_a_cpu_without_a_precision_names_those_it_has(tiny):
    lacking = {"bfloat16", "float16"} - set(precisions_here())
    for precision in lacking:
        with pytest.raises(
            EngineError, match=f"this CPU does not support {precision}; choose from"
        ):
            open_engine(tiny, device="cpu", precision=precision)


def test_auto_on_a_machine_without_a_gpu_is_openvino_and_never_imports_torch(tiny):
    """The search command's budget has no room for PyTorch's import."""
    program = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from fashionclip.checkpoint import open_checkpoint\n"
        "import fashionclip.engines as engines\n"
        "engines.GPU_DEVICE_FILES = ()\n"
        "engine = engines.open_engine(open_checkpoint(Path(sys.argv[1])))\n"
        "engine.encode_tokens(np.array([[1, 2, 3]], np.int32))\n"
        "sys.exit(engine.device != 'cpu' or 'torch' in sys.modules)"
    )
    if sys.platform != "linux":
        pytest.skip("elsewhere PyTorch itself is asked")
    subprocess.run([sys.executable, "-c", program, str(tiny.folder)], check=True)


def test_without_pytorch_its_devices_name_the_command_that_installs_it(tiny):
    program = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path\n"
        "from fashionclip.checkpoint import open_checkpoint\n"
        "from fashionclip.engines import open_engine\n"
        "from fashionclip.errors import MissingExtraError\n"
        "try:\n"
        "    open_engine(open_checkpoint(Path(sys.argv[1])), device='torch-cpu')\n"
        "except MissingExtraError as error:\n"
        "    print(error)"
    )
    command = [sys.executable, "-c", program, str(tiny.folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "pip install 'fashionclip[torch]'" in done.stdout


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu(tiny):
    from fashionclip.engines.pytorch import gpu_here

    if (gpu := gpu_here()) is None:
        pytest.skip("PyTorch sees no GPU here")
    assert open_engine(tiny).device == gpu
    exact = open_engine(tiny, device="cpu", precision="float32")
    pixels, tokens = random_pixels(300), sentences(tiny)
    for precision, least in (("float32", 0.99999), ("auto", 0.995), ("float16", 0.995)):
        engine = open_engine(tiny, device=gpu, precision=precision)
        images, texts = engine.encode_pixels(pixels), engine.encode_tokens(tokens)
        assert least_cosine(images, exact.encode_pixels(pixels)) > least
        assert least_cosine(texts, exact.encode_tokens(tokens)) > least


@pytest.mark.slow
def test_vit_b_32_agrees_in_float32_and_stays_close_in_bfloat16_and_int8(tmp_path):
    """The size of FashionCLIP, with random weights that spread images and texts apart."""
    import torch
    from transformers import CLIPModel

    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    folder = write_checkpoint(
        tmp_path / "vit-b-32",
        vision={**sizes, "num_attention_heads": 12, "image_size": 224, "patch_size": 32},
        text={
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
        },
        projection_dim=512,
    )
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    pixels, tokens = random_pixels(8, 224), sentences(checkpoint)
    image_vectors, text_vectors = reference(checkpoint, pixels, tokens)
    for device in DEVICES:
        engine = open_engine(checkpoint, device=device, precision="float32")
        np.testing.assert_allclose(engine.encode_pixels(pixels), image_vectors, atol=1e-5)
        np.testing.assert_allclose(engine.encode_tokens(tokens), text_vectors, atol=1e-5)
        half = open_engine(checkpoint, device=device, precision="auto")
        assert least_cosine(half.encode_pixels(pixels), image_vectors) >= 0.999
        assert least_cosine(half.encode_tokens(tokens), text_vectors) >= 0.999
    calibration = random_pixels(32, 224, seed=1)
    whole = open_engine(checkpoint, device="cpu", precision="int8", calibration=calibration)
    assert least_cosine(whole.encode_pixels(pixels), image_vectors) >= 0.99
    with warnings.catch_warnings(action="ignore"):  # not every PyTorch build has it on the CPU
        torch_half = open_engine(checkpoint, device="torch-cpu", precision="bfloat16")
        assert least_cosine(torch_half.encode_pixels(pixels), image_vectors) >= 0.999


def test_openvino_is_imported_whole_and_without_its_telemetry(tmp_path):
    code = (
        "import sys; from fashionclip import FashionCLIP; "
        "FashionCLIP.from_pretrained().encode_text('red dress'); import openvino; "
        "print('openvino_telemetry' in sys.modules, openvino.convert_model.__name__); "
        "import openvino_telemetry"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.returncode) == ("False convert_model\n", 0), done.stderr
    assert not list(tmp_path.iterdir()), "telemetry keeps its identifier in the home folder"
