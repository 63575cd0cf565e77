"""Losses against plain implementations; chunked gradients against those of the whole batch."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from fashionclip.checkpoint import open_checkpoint
from fashionclip.engines import open_engine
from fashionclip.engines.io import end_positions
from fashionclip.engines.towers import Towers
from fashionclip.train.data import CatalogPairs, Pair
from fashionclip.train.distributed import SINGLE_PROCESS
from fashionclip.train.loader import Batch
from fashionclip.train.loss import (
    LOSS_TERMS,
    Features,
    Targets,
    Temperature,
    anchor,
    distillation,
    find_duplicates,
    fit_bias,
    gather_features,
    info_nce,
    mixed_targets,
    siglip,
    soft_targets,
    term_weights,
    total_loss,
)
from fashionclip.train.model import (
    Inputs,
    PatchHead,
    load_towers,
    make_forward,
    save_weights,
    set_trainable,
    trainable_weights,
    with_activation,
)
from fashionclip.train.optimizer import backward
from fashionclip.train.prompts import (
    AttributePrompts,
    PromptTargets,
    open_prompts,
    prompt_loss,
    sample_prompts,
)
from fashionclip.train.recipe import DataConfig, LossConfig, ModelConfig, Recipe

CPU = torch.device("cpu")
ALL_WEIGHTS = ModelConfig()
N, DIM = 12, 8


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def unit_rows(seed, n=N):
    torch.manual_seed(seed)
    return functional.normalize(torch.randn(n, DIM), dim=1)


def features_of(images, texts, scale=10.0, bias=None):
    """Features of a single process."""
    bias = None if bias is None else torch.tensor(bias)
    return Features(images, texts, images, texts, torch.tensor(scale), bias)


def some_features(seed=0, scale=10.0, bias=None):
    return features_of(unit_rows(seed), unit_rows(seed + 1), scale, bias)


def test_infonce_is_the_mean_of_two_cross_entropies():
    features = some_features()
    logits = 10.0 * features.images @ features.texts.T
    labels = torch.arange(N)
    expected = (
        functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)
    ) / 2
    assert torch.allclose(info_nce(features, Targets()), expected, atol=1e-6)


def test_siglip_is_the_sum_of_log_sigmoids_over_the_batch():
    features = some_features(5, 9.0, -3.0)
    total = 0.0
    for i in range(N):
        for j in range(N):
            z = 1.0 if i == j else -1.0
            logit = 9.0 * float(features.images[i] @ features.texts[j]) - 3.0
            total -= math.log(1 / (1 + math.exp(-z * logit)))  # Zhai et al. 2023, equation 1
    assert float(siglip(features, Targets())) == pytest.approx(total / N, rel=1e-5)


@pytest.mark.parametrize("kind", ["infonce", "siglip"])
@pytest.mark.parametrize(("negatives", "repel"), [("distinct", False), ("all", True)])
def test_duplicates_are_not_negatives_of_each_other(kind, negatives, repel):
    same = torch.zeros(N, N, dtype=torch.bool)
    same[2, 5] = same[5, 2] = True
    torch.manual_seed(0)
    images = torch.eye(N)  # so that texts[j, i] is the similarity of image i and text j
    texts = torch.rand(N, N).requires_grad_()
    features = features_of(images, texts, 5.0, -2.0 if kind == "siglip" else None)
    excluded = same if negatives == "distinct" else None
    LOSS_TERMS[kind](features, Targets(excluded)).backward()
    assert (texts.grad[5, 2] != 0) == repel
    assert (texts.grad[2, 5] != 0) == repel
    assert texts.grad[5, 3] > 0
    assert texts.grad[5, 5] < 0


def test_excluded_negatives_take_no_part_in_the_softmax():
    features = some_features(9)
    same = torch.zeros(N, N, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    logits = 10.0 * features.images @ features.texts.T
    total = 0.0
    for rows in (logits, logits.T):
        for i in range(N):
            others = [j for j in range(N) if not same[i, j]]
            total += float(torch.logsumexp(rows[i, others], 0) - rows[i, i])
    found = info_nce(features, Targets(same))
    assert float(found) == pytest.approx(total / (2 * N), rel=1e-5)


@pytest.mark.parametrize("kind", ["infonce", "siglip"])
def test_soft_targets_are_shared_among_alike_pairs(kind):
    attributes = torch.tensor([[1, 5]] * 3 + [[i + 10, i + 40] for i in range(N - 3)])
    soft = soft_targets(attributes, attributes, first=0, ratio=0.3)
    features = some_features(11, 10.0, None if kind == "infonce" else -1.0)
    wanted = np.eye(N)
    for i in range(3):
        wanted[i] = [0.7 if j == i else 0.15 if j < 3 else 0.0 for j in range(N)]
    logits = (10.0 * features.images @ features.texts.T).double().numpy()
    if kind == "infonce":
        expected = 0.0
        for rows in (logits, logits.T):
            logs = rows - np.log(np.exp(rows).sum(1, keepdims=True))
            expected -= (wanted * logs).sum() / (2 * N)
    else:
        odds = 1 / (1 + np.exp(-(logits - 1.0)))
        each = -(wanted * np.log(odds) + (1 - wanted) * np.log(1 - odds))
        expected = each.sum() / N
    found = LOSS_TERMS[kind](features, Targets(soft=soft))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_pairs_are_the_same_by_product_by_caption_and_by_anothers_title():
    #        product caption title
    rows = [(1, 11, 21), (1, 12, 22), (3, 11, 23), (4, 23, 24), (5, 15, 25)]
    keys = torch.tensor(rows)
    same = find_duplicates(keys, keys, first=0)
    pairs = {(i, j) for i, j in same.nonzero().tolist() if i < j}
    assert pairs == {(0, 1), (0, 2), (2, 3)}
    assert torch.equal(same, same.T)
    late = find_duplicates(keys[3:], keys, first=3)
    assert torch.equal(late, same[3:])


def test_distillation_is_the_divergence_from_the_teachers_similarities():
    student, teacher = some_features(13), some_features(17, 20.0)
    own, wanted = student.images @ student.texts.T, teacher.images @ teacher.texts.T
    expected = 0.0
    for a, b in ((own, wanted), (own.T, wanted.T)):
        p = torch.softmax(20.0 * b, 1)
        q = torch.softmax(10.0 * a, 1)
        expected += float((p * (p.log() - q.log())).sum() / N / 2)
    found = distillation(student, Targets(teachers={"distill": teacher}))
    assert float(found) == pytest.approx(expected, rel=1e-4)
    itself = distillation(student, Targets(teachers={"distill": student}))
    assert float(itself) == pytest.approx(0.0, abs=1e-6)


def test_the_anchor_loss_is_zero_at_the_start_and_two_at_opposite_vectors():
    start = some_features(19)
    opposite = features_of(-start.images, -start.texts)
    targets = Targets(teachers={"anchor": start})
    assert float(anchor(start, targets)) == pytest.approx(0.0, abs=1e-6)
    assert float(anchor(opposite, targets)) == pytest.approx(2.0, abs=1e-6)


def test_the_loss_is_the_weighted_sum_of_the_recipes_terms():
    features, start = some_features(29), some_features(31)
    targets = Targets(teachers={"anchor": start, "distill": start})
    weights = term_weights(LossConfig(anchor=0.5, distill=2.0))
    assert weights == {"infonce": 1.0, "distill": 2.0, "anchor": 0.5}
    expected = (
        info_nce(features, targets)
        + 2.0 * distillation(features, targets)
        + 0.5 * anchor(features, targets)
    )
    assert torch.allclose(total_loss(features, targets, weights), expected)
    assert term_weights(LossConfig(kind="siglip")) == {"siglip": 1.0}


def test_prefixes_share_the_loss_with_the_whole_vectors():
    features, start = some_features(29), some_features(31)
    targets = Targets(teachers={"anchor": start})
    weights = {"infonce": 1.0, "anchor": 0.5}
    cut = [functional.normalize(side[:, :3], dim=1) for side in (features.images, features.texts)]
    expected = (info_nce(features, targets) + info_nce(features_of(*cut), targets)) / 2
    found = total_loss(features, targets, weights, prefixes=(3,))
    assert torch.allclose(found, expected + 0.5 * anchor(features, targets))


def test_the_fitted_bias_expects_as_many_matching_pairs_as_there_are():
    features = some_features(23)
    bias = fit_bias(features.images, features.texts, 30.0)
    odds = torch.sigmoid(30.0 * features.images @ features.texts.T + bias)
    assert float(odds.sum()) == pytest.approx(N, rel=1e-4)


def test_the_temperature_stays_below_its_limit():
    made = Temperature(math.log(500.0), has_bias=False)
    made.clamp(100.0)
    assert made.scale == pytest.approx(100.0, rel=1e-5)
    made.clamp(math.inf)
    assert made.scale == pytest.approx(100.0, rel=1e-5)


# ---- towers and gradients


def some_inputs(checkpoint, n=10, seed=0, patches=None):
    rng = np.random.default_rng(seed)
    side = checkpoint.config.vision.image_px
    pixels = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    texts = [" ".join(["red dress with stripes"] * (1 + i % 5)) + f" {i}" for i in range(n)]
    tokens = checkpoint.tokenizer.encode(texts)
    ends = end_positions(tokens, checkpoint.config)
    return Inputs(
        torch.from_numpy(pixels),
        torch.from_numpy(tokens.astype(np.int64)),
        torch.from_numpy(ends.astype(np.int64)),
        patches,
    )


def test_training_towers_give_the_vectors_of_the_cpu_engine(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    towers = load_towers(checkpoint, CPU)
    inputs = some_inputs(checkpoint, 40)
    pictures, texts = make_forward(checkpoint, CPU, "float32").encode(towers, inputs)
    engine = open_engine(checkpoint, device="cpu", precision="float32")
    assert np.allclose(pictures.detach(), engine.encode_pixels(inputs.pixels.numpy()), atol=1e-4)
    assert np.allclose(texts.detach(), engine.encode_tokens(inputs.tokens.numpy()), atol=1e-4)


def test_loss_and_gradients_are_those_of_transformers(tiny_checkpoint):
    from transformers import CLIPModel

    checkpoint = open_checkpoint(tiny_checkpoint)
    inputs = some_inputs(checkpoint)
    forward = make_forward(checkpoint, CPU, "float32")
    towers = load_towers(checkpoint, CPU)
    scale = Temperature(checkpoint.config.logit_scale, has_bias=False)

    def loss_of(images, texts):
        return info_nce(gather_features(images, texts, scale, SINGLE_PROCESS), Targets())

    loss = backward(towers, inputs, forward, loss_of, chunk_size=0)
    model = CLIPModel.from_pretrained(tiny_checkpoint)
    pixels = ((inputs.pixels.float() - forward.mean) / forward.std).permute(0, 3, 1, 2)
    theirs = model(input_ids=inputs.tokens, pixel_values=pixels, return_loss=True).loss
    theirs.backward()
    assert float(loss) == pytest.approx(float(theirs.detach()), rel=1e-5)
    expected = dict(model.named_parameters())
    assert torch.allclose(scale.logit_scale.grad, expected["logit_scale"].grad, rtol=1e-3)
    for name, weight in towers.named_parameters():
        assert torch.allclose(weight.grad, expected[name].grad, rtol=1e-3, atol=1e-5), name


def gradients_of(checkpoint, inputs, *, chunk, model=ALL_WEIGHTS, kind="infonce"):
    towers = load_towers(checkpoint, CPU)
    set_trainable(towers, model, seed=0)
    scale = Temperature(checkpoint.config.logit_scale, has_bias=kind == "siglip")
    forward = make_forward(checkpoint, CPU, "float32")
    n = len(inputs)
    keys = torch.arange(3 * n).reshape(n, 3) // 6  # neighbours are the same product
    with torch.no_grad():
        start = features_of(*forward.encode(load_towers(checkpoint, CPU), inputs), 9.0)
    targets = Targets(
        find_duplicates(keys, keys, first=0), teachers={"distill": start, "anchor": start}
    )
    weights = {kind: 1.0, "distill": 1.0, "anchor": 1.0}

    def loss_of(images, texts):
        features = gather_features(images, texts, scale, SINGLE_PROCESS)
        return total_loss(features, targets, weights)

    loss = backward(towers, inputs, forward, loss_of, chunk_size=chunk)
    named = {**trainable_weights(towers), **dict(scale.named_parameters())}
    return float(loss), {name: weight.grad for name, weight in named.items()}


@pytest.mark.parametrize("kind", ["infonce", "siglip"])
@pytest.mark.parametrize("chunk", [1, 16, 50])
def test_cached_gradients_are_those_of_the_whole_batch(tiny_checkpoint, chunk, kind):
    checkpoint = open_checkpoint(tiny_checkpoint)
    inputs = some_inputs(checkpoint, 64 if chunk > 1 else 6)
    loss, expected = gradients_of(checkpoint, inputs, chunk=0, kind=kind)
    cached_loss, found = gradients_of(checkpoint, inputs, chunk=chunk, kind=kind)
    assert cached_loss == pytest.approx(loss, abs=1e-5)
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-5, atol=1e-5), name


def test_recomputed_activations_give_the_same_gradients(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    patches = torch.stack([torch.randperm(16)[:9] for _ in range(10)])
    inputs = some_inputs(checkpoint, patches=patches)
    once = gradients_of(checkpoint, inputs, chunk=0)[1]
    twice = gradients_of(
        checkpoint, inputs, chunk=0, model=ModelConfig(checkpoint_activations=True)
    )[1]
    assert all(torch.allclose(twice[name], one, atol=1e-6) for name, one in once.items())


@pytest.mark.parametrize("frozen", ["vision", "text"])
def test_a_frozen_tower_has_no_gradients(tiny_checkpoint, frozen):
    checkpoint = open_checkpoint(tiny_checkpoint)
    inputs = some_inputs(checkpoint)
    _, found = gradients_of(checkpoint, inputs, chunk=4, model=ModelConfig(freeze=frozen))
    other = {"vision": "text", "text": "vis"}[frozen]
    assert found
    assert all(name.startswith((other, "logit_scale")) for name in found)
    assert all(gradient is not None for gradient in found.values())


def test_lora_trains_its_updates_only_and_begins_at_the_start(tiny_checkpoint):
    pytest.importorskip("peft")
    checkpoint = open_checkpoint(tiny_checkpoint)
    towers = load_towers(checkpoint, CPU)
    inputs = some_inputs(checkpoint)
    forward = make_forward(checkpoint, CPU, "float32")
    before = forward.encode(towers, inputs)[0].detach()
    set_trainable(towers, ModelConfig(lora_rank=2, freeze="text"), seed=0)
    names = trainable_weights(towers)
    assert names
    assert all(".lora_" in name and name.startswith("vision") for name in names)
    assert sum(w.numel() for w in names.values()) < sum(w.numel() for w in towers.parameters()) / 4
    assert torch.allclose(forward.encode(towers, inputs)[0], before, atol=1e-6)


def test_an_activation_by_recipe_changes_the_vectors_and_the_written_config(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    other = with_activation(checkpoint, "gelu")
    assert (checkpoint.config.vision.activation, other.config.text.activation) == (
        "quick_gelu",
        "gelu",
    )
    inputs = some_inputs(checkpoint)
    seen = [
        make_forward(c, CPU, "float32").encode(load_towers(c, CPU), inputs)[0]
        for c in (checkpoint, other)
    ]
    assert not torch.allclose(*seen, atol=1e-4)


def test_texts_do_not_depend_on_their_neighbours_length(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    towers: Towers = load_towers(checkpoint, CPU)
    inputs = some_inputs(checkpoint, 40)
    together = towers.encode_text(inputs.tokens, inputs.ends)
    alone = torch.cat(
        [towers.encode_text(inputs.tokens[i : i + 1], inputs.ends[i : i + 1]) for i in range(40)]
    )
    assert torch.allclose(together, alone, atol=1e-4)


def test_bfloat16_stays_near_float32(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    towers, inputs = load_towers(checkpoint, CPU), some_inputs(checkpoint)
    exact = make_forward(checkpoint, CPU, "float32").encode(towers, inputs)
    rough = make_forward(checkpoint, CPU, "bfloat16").encode(towers, inputs)
    for one, other in zip(exact, rough, strict=True):
        assert ((one * other).sum(1) > 0.99).all()
        assert other.dtype == torch.float32


def test_a_checkpoint_goes_into_towers_and_out_again(tiny_checkpoint: Path, tmp_path: Path):
    checkpoint = open_checkpoint(tiny_checkpoint)
    towers = load_towers(checkpoint, CPU)
    moved = {name: weight.detach() for name, weight in towers.named_parameters()}
    save_weights(checkpoint, moved, torch.tensor(3.0), tmp_path / "out")
    again = open_checkpoint(tmp_path / "out")
    for name in towers.state_dict():
        assert np.array_equal(again.weights()[name], checkpoint.weights()[name])
    assert again.config.logit_scale == pytest.approx(3.0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
def test_a_batch_of_4096_fits_where_128_do(tiny_checkpoint):
    """Memory grows only by the similarities of all pairs: a few matrices of 4,096 x 4,096."""
    script = Path(__file__).with_name("large_batch.py")

    def megabytes(n, chunk):
        words = [sys.executable, str(script), str(tiny_checkpoint), str(n), str(chunk)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return float(done.stdout)

    whole, in_chunks = megabytes(4096, 0), megabytes(4096, 128)
    similarities = 4 * 4096**2 / 2**20
    assert in_chunks < megabytes(128, 0) + 5 * similarities
    assert in_chunks < 0.6 * whole


def test_prompt_loss_is_the_cross_entropy_of_adjusted_logits():
    rng = np.random.default_rng(0)
    images = functional.normalize(torch.from_numpy(rng.normal(size=(3, 4))).float(), dim=1)
    texts = functional.normalize(torch.from_numpy(rng.normal(size=(2, 4))).float(), dim=1)
    labels = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 0.0]])
    log_prior = torch.tensor([0.9, 0.1]).log()
    found = prompt_loss(images, torch.tensor(5.0), [PromptTargets(texts, labels, log_prior)])
    logits = 5.0 * images[:2] @ texts.T + log_prior
    wanted = functional.cross_entropy(logits, labels[:2])
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_logit_adjustment_scales_how_common_a_value_is(strength):
    colours = ("red", "red", "red", "blue")
    pairs = [Pair(c, c, (), "", "", "", c, (c,), (), row) for row, c in enumerate(colours)]
    source = CatalogPairs(pairs, lambda pair: b"", [])
    loss = LossConfig(prompts=1.0, logit_adjustment=strength)
    recipe = Recipe(data=DataConfig(attributes=("colour",)), loss=loss)
    (found,) = open_prompts(source, range(4), recipe)
    adjusted = dict(zip(found.values, found.log_prior.tolist(), strict=True))
    wanted = {"blue": strength * math.log(0.25), "red": strength * math.log(0.75)}
    assert adjusted == pytest.approx(wanted, abs=1e-6)


def test_a_patch_head_loses_all_of_the_variance_at_first_and_none_of_what_it_predicts():
    torch.manual_seed(0)
    head = PatchHead(width=6, n_channels=3)
    states, targets = torch.randn(4, 10, 6), torch.randn(4, 9, 3)
    assert head(states, targets).item() == pytest.approx(2.0)
    constant = torch.ones(3)
    with torch.no_grad():
        head.patch.bias.copy_(constant)
        head.image.bias.copy_(constant)
    assert head(states, constant.expand(4, 9, 3)).item() == pytest.approx(0.0)


def test_a_patch_head_learns_nothing_of_patches_without_a_target():
    torch.manual_seed(0)
    head = PatchHead(width=6, n_channels=3)
    with torch.no_grad():
        head.patch.weight.normal_()
        head.image.weight.normal_()
    states, targets = torch.randn(4, 10, 6), torch.randn(4, 9, 3)
    known = head(states[1:], targets[1:])
    targets[0] = torch.nan
    assert head(states, targets).item() == pytest.approx(known.item())
    targets[:] = torch.nan
    loss = head(states, targets)
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad.isfinite().all() for weight in head.parameters())


def test_hard_negatives_compare_an_image_with_its_caption_and_a_changed_one():
    images, texts = unit_rows(0, 4), unit_rows(1, 4)
    temperature = Temperature(math.log(5.0), has_bias=False)
    features = gather_features(images, texts, temperature, SINGLE_PROCESS)
    changed = unit_rows(2, 2)
    rows = torch.tensor([3, 1])
    loss = LOSS_TERMS["hard_negatives"](features, Targets(changed_rows=rows, changed_texts=changed))
    choices = torch.stack([(images[rows] * one).sum(1) for one in (texts[rows], changed)], dim=1)
    wanted = functional.cross_entropy(5.0 * choices, torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert LOSS_TERMS["hard_negatives"](features, Targets()).item() == 0


def test_the_targets_of_mixed_images_follow_their_areas():
    batch = Batch(
        rows=np.arange(3),
        pixels=np.zeros((3, 1, 1, 3), np.uint8),
        tokens=np.zeros((3, 1), np.int32),
        keys=np.zeros((3, 3), np.int64),
        attributes=np.zeros((3, 0), np.int64),
        patches=None,
        patch_targets=None,
        mixed_with=np.array([1, 1, 2]),
        mix_ratio=np.array([0.75, 1.0, 1.0], dtype=np.float32),
        changed_rows=np.zeros(0, np.int64),
        changed_tokens=np.zeros((0, 2), np.int32),
    )
    of_images, of_texts = mixed_targets(batch, None, first=1, n_all=5)
    assert of_images[0].tolist() == [0.0, 0.75, 0.25, 0.0, 0.0]
    assert of_images[2].tolist() == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert of_texts[1].tolist() == pytest.approx([0.0, 0.2, 0.8, 0.0, 0.0])
    assert of_texts.sum(1).tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_attributes_that_are_always_prompted_are_in_every_step_and_the_others_take_turns():
    def attribute(column):
        values = (f"first {column}", f"second {column}")
        hashes, prior = np.zeros(2, np.int64), np.zeros(2, np.float32)
        return AttributePrompts(column, column in {2, 7}, values, hashes, prior, None)

    attributes = [attribute(column) for column in range(9)]
    rng = np.random.default_rng(0)
    steps = [sample_prompts(attributes, rng) for _ in range(40)]
    chosen = [{one.column for one in some} for some, _ in steps]
    assert all({2, 7} <= columns and len(columns) == 6 for columns in chosen)
    assert set().union(*chosen) == set(range(9))
    assert all(
        f"second {one.column}" in own[1]
        for some, texts in steps
        for one, own in zip(some, texts, strict=True)
    )
