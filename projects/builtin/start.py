"""The start of the built-in model: a vocabulary, a pretrained image tower, random other weights."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import pre_tokenizers, trainers
from transformers import CLIPConfig as TransformersConfig
from transformers import CLIPModel
from vision import MEAN, NETWORK, STD, pretrained_tower

from fashionclip.checkpoint import CLIPConfig, TextConfig
from fashionclip.checkpoint.config import write_config, write_preprocess
from fashionclip.checkpoint.folder import write_folder
from fashionclip.images.decode import Fit, Preprocess
from fashionclip.text.tokenizer import END, START, Tokenizer, clip_rules

FIT: Fit = "stretch"
"""All processors can stretch an image to a square; few can pad it."""
VISION = replace(NETWORK, layers=8, image_px=112, patch_px=16)
TEXT_WIDTH, TEXT_LAYERS, CONTEXT = 256, 3, 77
VECTOR_DIM = 256
VOCABULARY = 7500
LOGIT_SCALE = float(np.log(10.0))


def write_start(
    folder: Path, texts: Iterable[str], *, seed: int, is_pretrained: bool = True
) -> None:
    """Write a checkpoint to train from.

    Args:
        folder: the checkpoint folder to make.
        texts: captions of the training table, from which the vocabulary is learned.
        seed: of the random weights.
        is_pretrained: take the image tower of ``vision.py``; otherwise its weights are random too.

    Raises:
        SystemExit: the package that has the image tower is not installed.
    """
    tokenizer = learn_tokenizer(texts)
    text = TextConfig(
        width=TEXT_WIDTH,
        layers=TEXT_LAYERS,
        heads=TEXT_WIDTH // 64,
        mlp_width=4 * TEXT_WIDTH,
        activation="gelu",
        layer_norm_eps=1e-5,
        vocab_size=tokenizer.rules.get_vocab_size(),
        context_length=CONTEXT,
    )
    config = CLIPConfig(VISION, text, VECTOR_DIM, "first", tokenizer.end_id, LOGIT_SCALE)
    torch.manual_seed(seed)
    model = CLIPModel(TransformersConfig(**write_config(config)))
    if is_pretrained:
        model.vision_model.load_state_dict(pretrained_tower(VISION).state_dict())
    with torch.no_grad():
        model.logit_scale.fill_(LOGIT_SCALE)
    weights = {name: value.numpy(force=True) for name, value in model.state_dict().items()}
    preprocessor = write_preprocess(Preprocess(VISION.image_px, FIT, mean=MEAN, std=STD))
    files = {
        "config.json": json.dumps(write_config(config), indent=2) + "\n",
        "preprocessor_config.json": json.dumps(preprocessor, indent=2) + "\n",
        **tokenizer.files(),
    }

    def write_weights(draft: Path) -> None:
        save_file(weights, draft / "model.safetensors", metadata={"format": "pt"})

    write_folder(folder, files, [], write=write_weights)


def learn_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Learn a byte-pair vocabulary from texts, under CLIP's rules."""
    rules = clip_rules({}, [])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    rules.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(rules.to_str())["model"]["merges"]]
    # CLIP's order: letters, letters that end a word, what each merge makes, start, end
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    tokens += [left + right for left, right in merges]
    tokens = [*dict.fromkeys(tokens), START, END]
    vocab = {token: i for i, token in enumerate(tokens)}
    return Tokenizer(clip_rules(vocab, merges), CONTEXT, vocab[START], vocab[END])
