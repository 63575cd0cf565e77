"""The small CLIP that is trained: its size, its vocabulary, how it sees and reads, its export."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from builtin_captions import Captions
from builtin_pictures import GRID, PATCH_PX, SIZE_PX
from safetensors.numpy import load_file, save
from tokenizers import pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from fashionclip.checkpoint.config import read_config, write_config, write_preprocess
from fashionclip.checkpoint.folder import write_folder
from fashionclip.images.decode import Preprocess
from fashionclip.text.tokenizer import END, START, Tokenizer, clip_rules

WIDTH, CONTEXT = 256, 77
VOCABULARY = 5000
TRAINED_TOKENS = 32  # captions are cut here while training; few are longer


def new_model(captions: Captions) -> tuple[CLIPModel, Tokenizer]:
    """A model that knows nothing, and a vocabulary learned from the captions."""
    tokenizer = learn_tokenizer(captions)
    return build_model(tokenizer), tokenizer


def open_model(folder: Path) -> tuple[CLIPModel, Tokenizer]:
    """The model and vocabulary of an earlier export."""
    tokenizer = Tokenizer.from_folder(folder, context_length=CONTEXT)
    model = build_model(tokenizer)
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({name: torch.from_numpy(v).float() for name, v in tensors.items()})
    return model, tokenizer


def learn_tokenizer(captions: Captions) -> Tokenizer:
    """Learn a byte-pair vocabulary from the captions, under CLIP's rules."""
    rules = clip_rules({}, [])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    rules.train_from_iterator(captions.all_texts(), trainer)
    merges = [tuple(pair) for pair in json.loads(rules.to_str())["model"]["merges"]]
    # CLIP's order: letters, letters that end a word, what each merge makes, start, end
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    words += [left + right for left, right in merges]
    words = [*dict.fromkeys(words), START, END]
    vocab = {word: i for i, word in enumerate(words)}
    return Tokenizer(clip_rules(vocab, merges), CONTEXT, vocab[START], vocab[END])


def build_model(tokenizer: Tokenizer) -> CLIPModel:
    """A CLIP of 8.8 million weights: six layers for pictures, three for words."""
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": WIDTH // 64,
        "hidden_act": "gelu",
    }
    ends = {"bos_token_id": tokenizer.start_id, "eos_token_id": tokenizer.end_id}
    config = CLIPConfig(
        vision_config=tower
        | {"num_hidden_layers": 6, "image_size": SIZE_PX, "patch_size": PATCH_PX},
        text_config=tower
        | ends
        | {
            "num_hidden_layers": 3,
            "vocab_size": tokenizer.rules.get_vocab_size(),
            "max_position_embeddings": CONTEXT,
            "pad_token_id": tokenizer.end_id,
        },
        projection_dim=WIDTH,
    )
    model = CLIPModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(np.log(10.0))
    return model


def see(model: CLIPModel, x: Tensor, *, keep: float) -> tuple[Tensor, Tensor, Tensor]:
    """The picture tower up to its projection, on a random share of the patches (Li et al. 2023).

    Returns:
        What it says of the picture, its states of the patches, and which patches those are.
    """
    tower = model.vision_model
    patches = tower.embeddings(x)
    n, n_patches, width = patches.shape[0], GRID * GRID, patches.shape[2]
    kept = torch.rand(n, n_patches).argsort(1)[:, : int(n_patches * keep)]
    places = torch.cat([torch.zeros(n, 1, dtype=torch.long), kept + 1], 1)
    patches = patches.gather(1, places[:, :, None].expand(-1, -1, width))
    hidden = tower.encoder(inputs_embeds=tower.pre_layrnorm(patches)).last_hidden_state
    return tower.post_layernorm(hidden[:, 0]), hidden[:, 1:], kept


def read(model: CLIPModel, tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """Unit vectors of texts; short and long ones apart, so that little padding is computed."""
    rows = tokenizer.encode(texts)[:, :TRAINED_TOKENS]
    rows[(rows != tokenizer.end_id).all(1), -1] = tokenizer.end_id
    lengths = (rows != tokenizer.end_id).sum(1) + 1
    order = np.argsort(lengths, kind="stable")
    out = []
    for part in np.array_split(order, 3 if len(order) > 60 else 1):
        ids = torch.as_tensor(rows[part, : lengths[part].max()].astype(np.int64))
        pooled = model.text_model(input_ids=ids).pooler_output
        out.append(F.normalize(model.text_projection(pooled).float(), dim=-1))
    return torch.cat(out)[torch.as_tensor(np.argsort(order))]


def export(
    weights: dict[str, Tensor], model: CLIPModel, tokenizer: Tokenizer, folder: Path
) -> None:
    """Write weights of such a model as the package ships it: float16, both processors, no card."""
    tensors = {
        name: value.to(torch.float16 if value.ndim else torch.float32).numpy(force=True)
        for name, value in weights.items()
    }
    written = write_config(read_config(model.config.to_dict(), place="the model"))
    texts = {"config.json": json.dumps(written, indent=2) + "\n"}
    texts |= tokenizer.files()
    preprocessor = write_preprocess(Preprocess(SIZE_PX, "pad"))
    texts["preprocessor_config.json"] = json.dumps(preprocessor, indent=2) + "\n"
    blobs = {"model.safetensors": save(tensors, metadata={"format": "pt"})}
    write_folder(folder, texts, [], blobs=blobs)
