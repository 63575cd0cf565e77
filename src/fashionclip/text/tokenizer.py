"""Text to tokens with the checkpoint's byte-pair encoding; truncation and padding.

The ``tokenizers`` library encodes; this module adds start and end token, truncation at the model's
context, and padding to the longest text of a batch.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Int32
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from fashionclip.errors import CheckpointError
from fashionclip.lines import reason_of

START = "<|startoftext|>"
END = "<|endoftext|>"
RELEASED = "bpe_simple_vocab_16e6.txt.gz"
"""The vocabulary as OpenAI released it; the open_clip package contains it."""
_N_RELEASED_MERGES = 49152 - 256 - 2  # of the file's lines (simple_tokenizer.py)
MAX_CHARS = 20_000
"""Longer texts are cut before tokenisation: 77 tokens are fewer characters than this."""
# the pattern of CLIP's words (released code, simple_tokenizer.py)
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A checkpoint's tokenizer, thread-safe. Opened by ``from_folder``."""

    rules: tokenizers.Tokenizer
    context_length: int
    """Maximum number of tokens of a text, with start and end."""
    start_id: int
    end_id: int

    @classmethod
    def from_folder(cls, folder: Path, *, context_length: int) -> "Tokenizer":
        """Read ``tokenizer.json``, else ``vocab.json`` with ``merges.txt``, else ``RELEASED``.

        Raises:
            CheckpointError: the files are missing or damaged, or lack CLIP's end token.
        """
        try:
            rules = _read_rules(folder)
        except FileNotFoundError as exc:
            message = (
                f"{folder} has no tokenizer.json, nor vocab.json with merges.txt; "
                "copy the files from the checkpoint it was trained from"
            )
            raise CheckpointError(message) from exc
        except CheckpointError:
            raise
        except Exception as exc:  # the library raises Exception for a damaged file
            detail = reason_of(exc, width=200)
            message = f"the tokenizer in {folder} cannot be read ({detail}); fetch it again"
            raise CheckpointError(message) from exc
        start_id, end_id = rules.token_to_id(START), rules.token_to_id(END)
        if start_id is None or end_id is None:
            raise CheckpointError(_not_clips(folder))
        rules.no_padding()
        rules.enable_truncation(max_length=context_length)
        if rules.encode("").ids != [start_id, end_id]:  # some files do not add start and end
            rules.post_processor = _frame(start_id, end_id)
        return cls(rules, context_length, start_id, end_id)

    def encode(
        self, texts: Sequence[str], *, pad_to: int | None = None
    ) -> Int32[np.ndarray, "n token"]:
        """Encode texts as tokens: start, words, end, then padding.

        A text beyond the context is cut before its end token. Padding repeats the end token, which
        has no effect, because attention is causal and the first end token is read.

        Args:
            texts: any strings, also empty ones.
            pad_to: pad to this many tokens; None for the longest text of the batch.

        Returns:
            int32 ids, one row per text.

        Raises:
            TypeError: a text is not a string.
            ValueError: ``pad_to`` is less than the longest text or beyond the context.
        """
        ids = [encoding.ids for encoding in self.rules.encode_batch_fast([*map(_cleaned, texts)])]
        longest = max((len(row) for row in ids), default=2)
        width = longest if pad_to is None else pad_to
        if not longest <= width <= self.context_length:
            message = f"pad_to is {pad_to}; it must be {longest} to {self.context_length} here"
            raise ValueError(message)
        tokens = np.full((len(ids), width), self.end_id, dtype=np.int32)
        for row, tokens_of_row in zip(tokens, ids, strict=True):
            row[: len(tokens_of_row)] = tokens_of_row
        return tokens

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the context, so that ``encode`` cuts it."""
        return bool(self.rules.encode(_cleaned(text)).overflowing)

    def files(self) -> Mapping[str, str]:
        """The tokenizer's files for transformers 4 and 5, by name."""
        rules = tokenizers.Tokenizer.from_str(self.rules.to_str())
        rules.no_truncation()
        model = json.loads(rules.to_str())["model"]
        # start and end token may be outside the vocabulary
        vocab = dict(sorted(rules.get_vocab().items(), key=lambda entry: entry[1]))
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        settings = {
            "tokenizer_class": "CLIPTokenizer",
            "bos_token": START,
            "eos_token": END,
            "pad_token": END,
            "unk_token": END,
            "add_prefix_space": False,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": self.context_length,
        }
        special = {name: settings[name] for name in settings if name.endswith("_token")}
        return {
            "tokenizer.json": rules.to_str(pretty=True),
            "vocab.json": json.dumps(vocab, ensure_ascii=False),
            "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
            "tokenizer_config.json": json.dumps(settings, indent=2),
            "special_tokens_map.json": json.dumps(special, indent=2),
        }


def _read_rules(folder: Path) -> tokenizers.Tokenizer:
    file = folder / "tokenizer.json"
    if file.exists():
        return tokenizers.Tokenizer.from_file(str(file))
    if (folder / RELEASED).exists() and not (folder / "vocab.json").exists():
        return _released_rules(folder / RELEASED)
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    if not {START, END} <= vocab.keys():
        raise CheckpointError(_not_clips(folder))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    pairs = [line.split() for line in lines if line and not line.startswith("#version")]
    merges = [(left, right) for left, right in pairs]
    return clip_rules(vocab, merges)


def _released_rules(file: Path) -> tokenizers.Tokenizer:
    """The released code's order of ids: bytes, bytes at word ends, merges, start and end."""
    lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
    merges = [(left, right) for left, right in map(str.split, lines[1 : _N_RELEASED_MERGES + 1])]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    return clip_rules({word: i_word for i_word, word in enumerate(words)}, merges)


def _cleaned(text: str) -> str:
    """Cut a very long text, and replace halves of surrogate pairs.

    Raises:
        TypeError: it is not a string.
    """
    if not isinstance(text, str):
        message = f"a text is a string, not {type(text).__name__}"
        raise TypeError(message)
    if len(text) > MAX_CHARS:
        text = text.lstrip()[:MAX_CHARS]
    # JSON may contain halves of surrogate pairs, which UTF-8 cannot encode
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _not_clips(folder: Path) -> str:
    return f"the tokenizer in {folder} has no {START} and {END}; it is not CLIP's"


def clip_rules(vocab: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """CLIP's tokenizer for a vocabulary and its merges.

    Source: ``simple_tokenizer.py`` of the code released with Radford et al. 2021, and
    ``CLIPTokenizer`` in transformers, whose ids these equal.
    """
    rules = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token=END,
        )
    )
    rules.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    rules.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    rules.decoder = decoders.ByteLevel()
    rules.add_special_tokens([START, END])
    if START in vocab and END in vocab:
        rules.post_processor = _frame(vocab[START], vocab[END])
    return rules


def _frame(start_id: int, end_id: int) -> processors.PostProcessor:
    return processors.RobertaProcessing((END, end_id), (START, start_id), False, False)
