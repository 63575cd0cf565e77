"""Checkpoint folders of transformers: reading, checks, fingerprints and writing."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file, save_file

from fashionclip.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.checkpoint.config import (
    read_config,
    read_preprocess,
    write_config,
    write_preprocess,
)
from fashionclip.errors import CheckpointError
from fashionclip.images.decode import Preprocess, preprocess
from random_clip import write_checkpoint

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(read_json(path) | changes), encoding="utf-8")


def edit_weights(folder: Path, **changes: np.ndarray | None) -> None:
    tensors = load_file(folder / WEIGHTS) | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / WEIGHTS)


def split_weights(folder: Path) -> None:
    """Store the weights as large models do: in several files with an index."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places = {}
    for i_shard in range(3):
        name = f"model-{i_shard + 1:05}-of-00003.safetensors"
        part = {k: v for i, (k, v) in enumerate(tensors.items()) if i % 3 == i_shard}
        save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": places}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index), encoding="utf-8")


def message_of(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


# --- config.json ---------------------------------------------------------------------------------

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}


@pytest.mark.parametrize(
    "raw",
    [
        {"text_config": {}, "vision_config": {}},
        {"text_config": {**SMALL, "hidden_act": "gelu"}, "vision_config": {"patch_size": 16}},
        {"text_config": {**SMALL, "eos_token_id": 7}, "vision_config": {**SMALL}},
        {"text_config_dict": {"hidden_act": "gelu"}, "vision_config_dict": {"hidden_act": "gelu"}},
        {
            "text_config": {**SMALL, "hidden_act": "gelu"},
            "text_config_dict": {"num_hidden_layers": 3},
            "vision_config": {**SMALL, "hidden_act": "gelu"},
            "vision_config_dict": None,
            "projection_dim": 64,
        },
        {
            "text_config": {"hidden_act": "quick_gelu"},
            "text_config_dict": {"hidden_act": "gelu", "max_position_embeddings": 32},
            "vision_config": {"image_size": 64, "layer_norm_eps": 1e-6},
        },
    ],
)
def test_a_config_means_what_it_means_to_transformers(raw):
    from transformers import CLIPConfig

    theirs, ours = CLIPConfig(**json.loads(json.dumps(raw))), read_config(raw, place="config.json")
    for mine, other in ((ours.text, theirs.text_config), (ours.vision, theirs.vision_config)):
        assert mine.width == other.hidden_size
        assert mine.layers == other.num_hidden_layers
        assert mine.heads == other.num_attention_heads
        assert mine.mlp_width == other.intermediate_size
        assert mine.activation == other.hidden_act
        assert mine.layer_norm_eps == other.layer_norm_eps
    assert ours.text.vocab_size == theirs.text_config.vocab_size
    assert ours.text.context_length == theirs.text_config.max_position_embeddings
    assert ours.vision.image_px == theirs.vision_config.image_size
    assert ours.vision.patch_px == theirs.vision_config.patch_size
    assert ours.projection_dim == theirs.projection_dim
    assert ours.end_id == theirs.text_config.eos_token_id


def test_no_activation_means_quick_gelu_and_gelu_stays_gelu():
    old = read_config({"text_config": {}, "vision_config": {}}, place="")
    assert (old.text.activation, old.vision.activation) == ("quick_gelu", "quick_gelu")
    act = {"hidden_act": "gelu"}
    laion = read_config({"text_config": act, "vision_config": act}, place="")
    assert (laion.text.activation, laion.vision.activation) == ("gelu", "gelu")


def test_the_end_token_2_of_early_configs_means_the_highest_id():
    assert read_config({"text_config": {"eos_token_id": 2}}, place="").end_of_text == "argmax"
    assert read_config({"text_config": {"eos_token_id": 49407}}, place="").end_of_text == "first"
    assert read_config({"text_config": {}}, place="").end_of_text == "first"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"model_type": "bert", "hidden_size": 768}, "describes a 'bert' model, not a CLIP"),
        ({"model_type": "siglip", "text_config": {}}, "describes a 'siglip' model, not a CLIP"),
        ({"model_type": "clip_vision_model"}, "describes a 'clip_vision_model' model"),
        ({}, "has neither text_config nor vision_config"),
        ({"text_config": {"hidden_act": "relu"}}, "asks for the activation 'relu'"),
        ({"text_config": {"hidden_size": "wide"}}, "holds a value that is not usable"),
        ({"text_config": {"eos_token_id": None}}, "holds a value that is not usable"),
        ({"text_config": {"num_attention_heads": 0}}, "its heads would be 0"),
        ({"text_config": {"num_attention_heads": 7}}, "7 heads cannot share a width of 512"),
        ({"text_config": {"max_position_embeddings": 2}}, "its context_length would be 2"),
        ({"vision_config": {"patch_size": 30}}, "patches of 30 px do not fill 224 px"),
    ],
)
def test_a_config_that_is_no_clips_is_named(raw, words):
    with pytest.raises(CheckpointError, match=re.escape(words)):
        read_config(raw, place="config.json")


def test_a_written_config_reads_back_here_and_in_transformers(tiny_checkpoint):
    from transformers import CLIPConfig

    config = open_checkpoint(tiny_checkpoint).config
    raw = json.loads(json.dumps(write_config(config)))
    again = read_config(raw, place="")
    assert (again.text, again.vision, again.end_id) == (config.text, config.vision, config.end_id)
    assert CLIPConfig(**raw).text_config.eos_token_id == config.end_id


# --- preprocessor_config.json --------------------------------------------------------------------


def preprocess_of(**raw: object) -> Preprocess:
    config = read_config({"vision_config": {"image_size": 32, "patch_size": 8}}, place="")
    return read_preprocess(raw or None, config, place="preprocessor_config.json")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, Preprocess(32)),
        ({"size": 32, "crop_size": 32}, Preprocess(32)),
        ({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}, Preprocess(32)),
        ({"size": 40, "crop_size": 32}, Preprocess(32, shortest_edge_px=40)),
        ({"size": 32, "do_center_crop": False}, Preprocess(32, "stretch")),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": False}, Preprocess(32, "stretch")),
        ({"size": {"height": 32, "width": 32}}, Preprocess(32, "stretch")),
        ({"fit": "pad", "size": 32}, Preprocess(32, "pad")),
        ({"fit": "crop", "size": {"height": 32, "width": 32}}, Preprocess(32)),
        ({"resample": 2}, Preprocess(32, resample="bilinear")),
        ({"resample": 1}, Preprocess(32, resample="lanczos")),
        (
            {"image_mean": [0.5] * 3, "image_std": [0.25] * 3},
            Preprocess(32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        ),
        ({"do_normalize": False}, Preprocess(32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))),
    ],
)
def test_preprocessor_configs_old_and_new_are_understood_and_written_back(raw, expected):
    found = preprocess_of(**raw)
    assert found == expected
    assert preprocess_of(**json.loads(json.dumps(write_preprocess(found)))) == expected


@pytest.mark.parametrize("size", [(50, 120), (120, 50), (90, 90)])
@pytest.mark.parametrize(("fit", "shown"), [("crop", "crop"), ("stretch",) * 2, ("pad", "stretch")])
def test_transformers_prepares_images_as_the_written_file_says(fit, shown, size):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    values = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    image = Image.fromarray(values).resize(size)
    written = json.loads(json.dumps(write_preprocess(Preprocess(32, fit))))
    processor = CLIPImageProcessorPil(**written)
    found = processor(image, return_tensors="np", do_rescale=False, do_normalize=False)
    pixels = np.asarray(found["pixel_values"][0]).transpose(1, 2, 0)
    assert np.array_equal(pixels, preprocess(image, Preprocess(32, shown)))


@settings(max_examples=30)
@given(
    scale=st.sampled_from([1 / 255, 1 / 127.5, 1 / 256, 1.0]),
    does_rescale=st.booleans(),
    does_normalize=st.booleans(),
    pixel=st.integers(0, 255),
)
def test_any_scale_of_pixels_comes_out_as_the_file_means_it(
    scale, does_rescale, does_normalize, pixel
):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    pre = preprocess_of(
        rescale_factor=scale,
        do_rescale=does_rescale,
        do_normalize=does_normalize,
        image_mean=mean,
        image_std=std,
    )
    value = pixel * scale if does_rescale else pixel
    expected = (value - np.array(mean)) / std if does_normalize else np.full(3, value)
    ours = (pixel / 255 - np.array(pre.mean)) / pre.std
    assert np.allclose(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"size": 64, "crop_size": 64}, "makes images of 64 px, but the model takes 32 px"),
        ({"fit": "squeeze"}, "says fit 'squeeze'; it is one of crop, pad, stretch"),
        ({"resample": 4}, "holds a value that is not usable"),
        ({"image_std": [0, 0, 0]}, "holds a value that is not usable"),
        ({"image_mean": [0.5]}, "holds a value that is not usable"),
        ({"size": {"height": 40, "width": 32}, "do_center_crop": False}, "not usable"),
        ({"size": {"height": 40, "width": 40}, "crop_size": 32}, "not usable"),
        ({"size": "large"}, "not usable"),
    ],
)
def test_a_preprocessor_config_that_cannot_be_is_named(raw, words):
    with pytest.raises(CheckpointError, match=re.escape(words)):
        preprocess_of(**raw)


def test_transformers_5_keeps_the_settings_in_another_file_which_wins(folder):
    from transformers import CLIPProcessor

    CLIPProcessor.from_pretrained(folder).save_pretrained(folder)
    nested = read_json(folder / "processor_config.json")["image_processor"]
    nested["image_mean"] = [0.5, 0.5, 0.5]
    edit_json(folder / "processor_config.json", image_processor=nested)
    assert open_checkpoint(folder).preprocess.mean == (0.5, 0.5, 0.5)
    theirs = CLIPProcessor.from_pretrained(folder).image_processor
    assert tuple(theirs.image_mean) == (0.5, 0.5, 0.5)


def test_our_own_fit_survives_transformers_5(folder):
    from transformers import CLIPProcessor

    edit_json(folder / "preprocessor_config.json", fit="pad")
    (folder / "processor_config.json").unlink(missing_ok=True)
    CLIPProcessor.from_pretrained(folder).save_pretrained(folder)
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    assert open_checkpoint(folder).preprocess.fit == "pad"


def test_our_own_fit_may_be_written_by_hand_into_either_file(folder):
    edit_json(folder / "preprocessor_config.json", fit="pad")
    assert open_checkpoint(folder).preprocess.fit == "pad"
    (folder / "processor_config.json").unlink(missing_ok=True)
    assert open_checkpoint(folder).preprocess.fit == "pad"


def test_a_folder_without_a_preprocessor_has_clips_own(folder):
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    assert open_checkpoint(folder).preprocess == Preprocess(32)


# --- weights -------------------------------------------------------------------------------------


def test_half_precision_comes_out_right_whatever_numpy_knows_of_it(tiny_checkpoint, tmp_path):
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    tensors = load_torch(tiny_checkpoint / WEIGHTS)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / str(dtype)))
        stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        save_torch(stored, folder / WEIGHTS)
        weights = open_checkpoint(folder).weights()
        for name, tensor in stored.items():
            if not name.endswith("position_ids"):
                assert np.array_equal(weights[name], tensor.float().numpy()), name
                assert weights[name].dtype in (np.float32, np.float16)


def test_weights_in_several_files_are_the_same_model(folder, tiny_checkpoint):
    split_weights(folder)
    whole, parts = open_checkpoint(tiny_checkpoint), open_checkpoint(folder)
    assert parts.fingerprint == whole.fingerprint
    assert set(parts.weights()) == set(whole.weights())


def test_old_position_ids_are_no_weights(folder, tiny_checkpoint):
    ids = np.arange(77)[None]
    edit_weights(folder, **{"text_model.embeddings.position_ids": ids})
    checkpoint = open_checkpoint(folder)
    assert "text_model.embeddings.position_ids" not in checkpoint.weights()
    assert checkpoint.fingerprint == open_checkpoint(tiny_checkpoint).fingerprint


def test_the_temperature_is_the_weights_and_not_the_configs(folder):
    edit_weights(folder, logit_scale=np.array(4.25, np.float32))
    assert open_checkpoint(folder).config.logit_scale == 4.25


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(folder, share):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: int(len(data) * share)])
    assert f"{folder / WEIGHTS} is truncated or not a safetensors file" in message_of(folder)


def test_a_missing_shard_is_named(folder):
    split_weights(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors is missing" in message_of(folder)


def test_a_broken_index_of_shards_is_named(folder):
    split_weights(folder)
    (folder / f"{WEIGHTS}.index.json").write_text("{}", encoding="utf-8")
    assert "model.safetensors.index.json cannot be read" in message_of(folder)


def test_a_tensor_of_another_shape_is_named_with_both(folder):
    edit_weights(folder, **{"visual_projection.weight": np.zeros((7, 32), np.float32)})
    words = (
        "visual_projection.weight in .* has the shape \\(7, 32\\), but config.json says \\(24, 32"
    )
    assert re.search(words, message_of(folder))


def test_a_missing_tower_is_named(folder):
    names = [name for name in load_file(folder / WEIGHTS) if name.startswith("vision_model")]
    edit_weights(folder, **dict.fromkeys(names))
    assert re.search(r"lack vision_model\S+ and \d+ more; they are not a CLIP", message_of(folder))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize(
    "name", ["visual_projection.weight", "text_model.encoder.layers.1.mlp.fc2.bias", "logit_scale"]
)
def test_a_weight_that_is_no_number_is_refused_with_its_name(folder, value, dtype, name):
    import torch
    from safetensors.torch import save_file as save_torch

    tensors = {k: torch.from_numpy(v) for k, v in load_file(folder / WEIGHTS).items()}
    tensors[name].reshape(-1)[-1] = float(value)
    stored = {k: v.to(getattr(torch, dtype)) for k, v in tensors.items()}
    save_torch(stored, folder / WEIGHTS)
    assert message_of(folder).startswith(f"{name} holds NaN or infinite values in {folder}, ")


def test_several_weights_that_are_no_numbers_are_counted(folder):
    names = [name for name in load_file(folder / WEIGHTS) if name.endswith("fc1.bias")]
    edit_weights(folder, **dict.fromkeys(names, np.full(64, np.nan, np.float32)))
    assert re.search(rf"fc1\.bias \(and {len(names) - 1} more\) holds NaN", message_of(folder))


def test_weights_quantised_by_another_tool_are_refused(folder):
    edit_weights(folder, **{"visual_projection.weight": np.zeros((24, 32), np.int8)})
    assert "visual_projection.weight" in message_of(folder)
    assert "stored as I8; save the model in float32" in message_of(folder)


@pytest.mark.slow
def test_a_pickled_model_comes_with_the_command_that_converts_it(folder):
    import torch
    from safetensors.torch import load_file as load_torch

    torch.save(load_torch(folder / WEIGHTS), folder / "pytorch_model.bin")
    expected = open_checkpoint(folder).fingerprint
    (folder / WEIGHTS).unlink()
    command = re.search(r'python -c "(.+)" and open', message_of(folder))[1]
    subprocess.run([sys.executable, "-c", command], check=True, capture_output=True)
    assert open_checkpoint(folder).fingerprint == expected


# --- names and folders ---------------------------------------------------------------------------


def test_the_built_in_model_opens_by_nothing_and_by_name():
    nothing, named = open_checkpoint(), open_checkpoint("builtin")
    assert nothing.name == named.name == "builtin"
    assert nothing.fingerprint == named.fingerprint
    assert nothing.preprocess.fit == "stretch"


def test_a_folder_opens_by_path_and_by_string(tiny_checkpoint):
    assert open_checkpoint(tiny_checkpoint).name == str(tiny_checkpoint)
    assert open_checkpoint(str(tiny_checkpoint)).config == open_checkpoint(tiny_checkpoint).config


@pytest.mark.parametrize("name", ["./gone", "/nowhere/at/all", "~/gone", Path("gone")])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(
        CheckpointError, match=r"does not exist; pass a folder with config\.json in"
    ):
        open_checkpoint(name)


def test_a_file_is_no_folder(folder):
    with pytest.raises(CheckpointError, match="is a file, not a folder"):
        open_checkpoint(folder / WEIGHTS)


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\x01"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_broken_json_file_is_named(folder, name, content):
    (folder / "processor_config.json").unlink(missing_ok=True)
    (folder / name).write_text(content, encoding="utf-8")
    assert str(folder / name) in message_of(folder)


def test_a_tokenizer_of_another_model_is_refused(folder):
    config = read_json(folder / "config.json")
    edit_json(folder / "config.json", text_config=config["text_config"] | {"eos_token_id": 5})
    assert "config.json ends texts with token 5, but the tokenizer with" in message_of(folder)


def test_a_folder_as_transformers_4_writes_it_opens(folder, tiny_checkpoint):
    """The layout of transformers 4.57: no tokenizer.json from its plain tokenizer, no nesting."""
    for name in ("tokenizer.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    token = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    start, end = ({"content": f"<|{word}oftext|>", **token} for word in ("start", "end"))
    special = {"bos_token": start, "eos_token": end, "pad_token": end["content"], "unk_token": end}
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    settings = {"tokenizer_class": "CLIPTokenizer", "errors": "replace", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    preprocess = {
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "image_processor_type": "CLIPImageProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 32},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocess), encoding="utf-8")
    old, new = open_checkpoint(folder), open_checkpoint(tiny_checkpoint)
    texts = ["Red shirt, it's 40% off", "", "👗 Größe"]
    assert old.tokenizer.encode(texts).tolist() == new.tokenizer.encode(texts).tolist()
    assert (old.config, old.preprocess) == (new.config, new.preprocess)


# --- fingerprint ---------------------------------------------------------------------------------


def test_a_fingerprint_is_that_of_the_content_and_not_of_the_place(tiny_checkpoint, folder):
    assert open_checkpoint(folder).fingerprint == open_checkpoint(tiny_checkpoint).fingerprint
    assert re.fullmatch(r"[0-9a-f]{16}", open_checkpoint(folder).fingerprint)


def change_a_weight(folder: Path) -> None:
    tensor = load_file(folder / WEIGHTS)["visual_projection.weight"].copy()
    tensor[0, 0] = np.nextafter(tensor[0, 0], np.float32(np.inf))
    edit_weights(folder, **{"visual_projection.weight": tensor})


def change_the_activation(folder: Path) -> None:
    text = read_json(folder / "config.json")["text_config"]
    edit_json(folder / "config.json", text_config=text | {"hidden_act": "gelu"})


def change_the_words(folder: Path) -> None:
    rules = read_json(folder / "tokenizer.json")
    rules["normalizer"] = {"type": "NFC"}
    edit_json(folder / "tokenizer.json", **rules)


def change_the_fit(folder: Path) -> None:
    edit_json(folder / "preprocessor_config.json", fit="pad")


@pytest.mark.parametrize(
    "change", [change_a_weight, change_the_activation, change_the_words, change_the_fit]
)
def test_a_fingerprint_changes_with_whatever_changes_vectors(folder, tiny_checkpoint, change):
    change(folder)
    assert open_checkpoint(folder).fingerprint != open_checkpoint(tiny_checkpoint).fingerprint


# --- saving --------------------------------------------------------------------------------------


def vectors_of_transformers(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    import torch
    from transformers import CLIPModel, CLIPProcessor

    pixels = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    texts = ["Red shirt", "", "blue jeans " * 60, "it's Größe 40 👗"]
    inputs = CLIPProcessor.from_pretrained(folder)(
        text=texts,
        images=Image.fromarray(pixels),
        return_tensors="pt",
        padding=True,
        truncation=True,
    )
    with torch.no_grad():
        output = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()(**inputs)
    return output.image_embeds.numpy(), output.text_embeds.numpy()


@pytest.mark.parametrize("legacy", [False, True], ids=["first end token", "highest id"])
def test_transformers_reads_what_was_saved_as_it_read_the_original(tmp_path, legacy):
    original = write_checkpoint(tmp_path / "a", activation="gelu", legacy_end_of_text=legacy)
    save_checkpoint(open_checkpoint(original), tmp_path / "b")
    expected, found = vectors_of_transformers(original), vectors_of_transformers(tmp_path / "b")
    for mine, theirs in zip(found, expected, strict=True):
        assert np.array_equal(mine, theirs)


def assert_same(a: Checkpoint, b: Checkpoint) -> None:
    assert (a.fingerprint, a.config, a.preprocess) == (b.fingerprint, b.config, b.preprocess)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_saving_keeps_the_fingerprint_the_fit_and_the_card(folder, tmp_path, fit):
    edit_json(folder / "preprocessor_config.json", fit=fit)
    (folder / "README.md").write_text("# A card\n", encoding="utf-8")
    (folder / "trained-on.safetensors").write_bytes(b"digests")
    first = open_checkpoint(folder)
    save_checkpoint(first, tmp_path / "new" / "copy")
    again = open_checkpoint(tmp_path / "new" / "copy")
    assert_same(first, again)
    assert again.preprocess.fit == fit
    assert again.card == "# A card\n"
    assert (again.folder / "trained-on.safetensors").read_bytes() == b"digests"


def test_a_saved_config_says_the_activation_even_if_the_old_one_did_not(folder, tmp_path):
    raw = read_json(folder / "config.json")
    for tower in ("text_config", "vision_config"):
        del raw[tower]["hidden_act"]
        raw[f"{tower}_dict"] = raw.pop(tower)
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    save_checkpoint(open_checkpoint(folder), tmp_path / "copy")
    saved = read_json(tmp_path / "copy" / "config.json")
    assert (
        saved["text_config"]["hidden_act"] == saved["vision_config"]["hidden_act"] == "quick_gelu"
    )
    assert "text_config_dict" not in saved
    assert_same(open_checkpoint(folder), open_checkpoint(tmp_path / "copy"))


def test_a_model_in_several_files_saves_as_such(folder, tmp_path):
    split_weights(folder)
    save_checkpoint(open_checkpoint(folder), tmp_path / "copy")
    assert len([*(tmp_path / "copy").glob("*.safetensors")]) == 3
    assert_same(open_checkpoint(folder), open_checkpoint(tmp_path / "copy"))


def test_a_model_saved_over_another_leaves_nothing_of_it(folder, tiny_checkpoint, tmp_path):
    other = write_checkpoint(tmp_path / "other", seed=5)
    edit_json(other / "preprocessor_config.json", fit="pad")
    (other / "processor_config.json").unlink(missing_ok=True)
    split_weights(other)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    save_checkpoint(open_checkpoint(other), folder)
    assert_same(open_checkpoint(other), open_checkpoint(folder))
    save_checkpoint(open_checkpoint(tiny_checkpoint), folder)
    assert_same(open_checkpoint(tiny_checkpoint), open_checkpoint(folder))
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_model_may_be_saved_over_itself(folder, tiny_checkpoint):
    checkpoint = open_checkpoint(folder)
    save_checkpoint(checkpoint, folder)
    assert_same(checkpoint, open_checkpoint(folder))
    assert_same(open_checkpoint(tiny_checkpoint), open_checkpoint(folder))


def test_a_place_that_cannot_be_written_is_named(tiny_checkpoint, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"cannot be written to .*file/model \("):
        save_checkpoint(open_checkpoint(tiny_checkpoint), tmp_path / "file" / "model")


FULL_DISK = """
import resource, sys
from pathlib import Path
from fashionclip.checkpoint import open_checkpoint, save_checkpoint
from fashionclip.errors import CheckpointError
checkpoint = open_checkpoint(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # the system's own "no more room"
for place in sys.argv[2:]:
    try:
        save_checkpoint(checkpoint, Path(place))
    except CheckpointError as exc:
        print(exc)
"""


def test_a_disk_that_fills_up_leaves_what_was_there(tiny_checkpoint, folder, tmp_path):
    before = open_checkpoint(folder)
    command = [sys.executable, "-c", FULL_DISK, tiny_checkpoint, tmp_path / "new", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("the checkpoint cannot be written to") == 2
    assert_same(before, open_checkpoint(folder))
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "model"}
