"""Random CLIP checkpoints written by transformers, small enough for tests."""

import json
from pathlib import Path

CAPTIONS = (
    "red striped t-shirt with short sleeves",
    "blue denim jeans for men",
    "white leather sneakers",
    "black dress with dots, long sleeves, round neck",
    "green checked shirt, button-down collar",
    "brown handbag with a strap",
    "a photo of a grey wool sweater",
)


def write_tokenizer_files(folder: Path, *, vocab_size: int = 400) -> None:
    """Train a byte-level BPE with CLIP's rules and write it as vocab.json and merges.txt."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = (
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
        r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size + 256,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CAPTIONS * 4, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    merges = [tuple(pair) for pair in model["merges"]]
    words += [left + right for left, right in merges if left + right not in set(words)]
    words = [*dict.fromkeys(words), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: i for i, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    activation: str = "quick_gelu",
    legacy_end_of_text: bool = False,
    vision: dict[str, int] | None = None,
    text: dict[str, int] | None = None,
    projection_dim: int = 24,
) -> Path:
    """Write a random CLIP as transformers writes it: weights, configuration, both processors."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer_files(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    vision_sizes = {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    } | (vision or {})
    text_sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
    } | (text or {})
    ends = {
        "bos_token_id": 0 if legacy_end_of_text else tokenizer.bos_token_id,
        "eos_token_id": 2 if legacy_end_of_text else tokenizer.eos_token_id,
        "pad_token_id": 1 if legacy_end_of_text else tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        vision_config={"hidden_act": activation, **vision_sizes},
        text_config={"hidden_act": activation, **text_sizes, **ends},
        projection_dim=projection_dim,
    )
    torch.manual_seed(seed)
    model = CLIPModel(config).eval()
    with (
        torch.no_grad()
    ):  # with the small default initialisation, all images have nearly the same vector
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "embedding" not in name:
                weight.mul_(3.0)
            elif name.endswith("bias"):
                weight.normal_(std=0.1)
    model.save_pretrained(folder)
    size = vision_sizes["image_size"]
    images = CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    if not (folder / "preprocessor_config.json").exists():  # transformers 5 folds it into another
        images.save_pretrained(folder)
    return folder
