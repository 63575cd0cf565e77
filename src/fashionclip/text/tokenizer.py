"""Text to tokens, with CLIP's byte-pair encoding as the checkpoint's files hold it.

The work is done by the ``tokenizers`` library; here are the rules around it: start and end
token, the cut at the model's context, and padding to the longest text of a batch only.
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

START = "<|startoftext|>"
END = "<|endoftext|>"
RELEASED = "bpe_simple_vocab_16e6.txt.gz"
"""The vocabulary as OpenAI released it, and as the open_clip package carries it."""
_RELEASED_MERGES = 49152 - 256 - 2  # how many of its lines count (simple_tokenizer.py)
LONGEST_TEXT = 20_000
"""Characters looked at: 77 tokens never reach so far, and a caption of 50 MB costs no minute."""
# what CLIP splits words at (released code, simple_tokenizer.py)
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A checkpoint's tokenizer. Made by ``from_folder``; calls may come from any thread."""

    rules: tokenizers.Tokenizer
    context_length: int
    """Most tokens a text may have, start and end included."""
    start_id: int
    end_id: int

    @classmethod
    def from_folder(cls, folder: Path, *, context_length: int) -> "Tokenizer":
        """Read ``tokenizer.json``, else ``vocab.json`` with ``merges.txt``, else ``RELEASED``.

        Raises:
            CheckpointError: neither is there, they are broken, or they lack CLIP's end token.
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
        except Exception as exc:  # the library raises bare Exception for a broken file
            detail = " ".join(str(exc).split())[:200]
            message = f"the tokenizer in {folder} cannot be read ({detail}); fetch it again"
            raise CheckpointError(message) from exc
        start_id, end_id = rules.token_to_id(START), rules.token_to_id(END)
        if start_id is None or end_id is None:
            raise CheckpointError(_not_clips(folder))
        rules.no_padding()
        rules.enable_truncation(max_length=context_length)
        if rules.encode("").ids != [start_id, end_id]:  # some files leave the frame to the caller
            rules.post_processor = _frame(start_id, end_id)
        return cls(rules, context_length, start_id, end_id)

    def encode(
        self, texts: Sequence[str], *, pad_to: int | None = None
    ) -> Int32[np.ndarray, "n token"]:
        """Turn texts into tokens: start, words, end, then padding.

        A text beyond the context is cut before its end token, which is kept. Padding repeats the
        end token; attention is causal and the first end token is read, so it has no effect.

        Args:
            texts: any strings, empty ones too.
            pad_to: pad to this many tokens; None for the longest text of the batch.

        Returns:
            int32 ids, one row a text.

        Raises:
            TypeError: one of the texts is no string.
            ValueError: ``pad_to`` is shorter than the longest text, or beyond the context.
        """
        ids = [encoding.ids for encoding in self.rules.encode_batch_fast([*map(_legible, texts)])]
        longest = max((len(row) for row in ids), default=2)
        width = longest if pad_to is None else pad_to
        if not longest <= width <= self.context_length:
            message = f"pad_to is {pad_to}; it must be {longest} to {self.context_length} here"
            raise ValueError(message)
        tokens = np.full((len(ids), width), self.end_id, dtype=np.int32)
        for row, tokens_of_row in zip(tokens, ids, strict=True):
            row[: len(tokens_of_row)] = tokens_of_row
        return tokens

    def files(self) -> Mapping[str, str]:
        """The tokenizer as files that transformers 4 and 5 load: name to content."""
        rules = tokenizers.Tokenizer.from_str(self.rules.to_str())
        rules.no_truncation()
        model = json.loads(rules.to_str())["model"]
        # start and end token may stand beside the vocabulary instead of in it
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
    """Number the words as the released code does: bytes, bytes that end a word, merges, frame."""
    lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
    merges = [(left, right) for left, right in map(str.split, lines[1 : _RELEASED_MERGES + 1])]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    return clip_rules({word: i_word for i_word, word in enumerate(words)}, merges)


def _legible(text: str) -> str:
    """Cut a text that no model reads to its end, and replace halves of surrogate pairs.

    Raises:
        TypeError: it is no string.
    """
    if not isinstance(text, str):
        message = f"a text is a string, not {type(text).__name__}"
        raise TypeError(message)
    if len(text) > LONGEST_TEXT:
        text = text.lstrip()[:LONGEST_TEXT]
    # JSON may hold halves of surrogate pairs, which no UTF-8 can
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _not_clips(folder: Path) -> str:
    return f"the tokenizer in {folder} has no {START} and {END}; it is not CLIP's"


def clip_rules(vocab: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """Build CLIP's tokenizer around a vocabulary and its merges.

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
