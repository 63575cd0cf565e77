"""The untrained start of the built-in model: a vocabulary, random weights, a checkpoint folder."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel

from fashionclip.checkpoint.config import read_config, write_config, write_preprocess
from fashionclip.checkpoint.folder import write_folder
from fashionclip.images.decode import Preprocess
from fashionclip.text.tokenizer import END, START, Tokenizer, clip_rules

WIDTH, CONTEXT = 256, 77
IMAGE_PX, PATCH_PX = 112, 16
IMAGE_LAYERS, TEXT_LAYERS = 6, 3
VOCABULARY = 5000
LOGIT_SCALE = 10.0


def write_start(folder: Path, texts: Iterable[str], *, seed: int) -> None:
    """Write a checkpoint with random weights, and a vocabulary learned from texts.

    Args:
        folder: the checkpoint folder to make.
        texts: captions of the training table.
        seed: of the weights.
    """
    tokenizer = learn_tokenizer(texts)
    torch.manual_seed(seed)
    model = CLIPModel(_config(tokenizer))
    with torch.no_grad():
        model.logit_scale.fill_(np.log(LOGIT_SCALE))
    weights = {name: value.numpy(force=True) for name, value in model.state_dict().items()}
    config = write_config(read_config(model.config.to_dict(), place="the start"))
    preprocessor = write_preprocess(Preprocess(IMAGE_PX, "pad"))
    files = {
        "config.json": json.dumps(config, indent=2) + "\n",
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


def _config(tokenizer: Tokenizer) -> CLIPConfig:
    """A CLIP of 8.8 million weights."""
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": WIDTH // 64,
        "hidden_act": "gelu",
    }
    vision = {"num_hidden_layers": IMAGE_LAYERS, "image_size": IMAGE_PX, "patch_size": PATCH_PX}
    text = {
        "num_hidden_layers": TEXT_LAYERS,
        "vocab_size": tokenizer.rules.get_vocab_size(),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.start_id,
        "eos_token_id": tokenizer.end_id,
        "pad_token_id": tokenizer.end_id,
    }
    return CLIPConfig(vision_config=tower | vision, text_config=tower | text, projection_dim=WIDTH)
