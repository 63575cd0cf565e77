"""Token ids equal those of transformers' CLIPTokenizer; padding has no effect."""

import gzip
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Rules

from fashionclip.checkpoint import open_checkpoint
from fashionclip.engines import open_engine
from fashionclip.errors import CheckpointError
from fashionclip.text.tokenizer import MAX_CHARS, RELEASED, Tokenizer
from random_clip import write_checkpoint

NASTY = [
    "",
    " \t\n\u00a0\u3000",
    "Red  STRIPED\tt-shirt,\nsize XL!!",
    "it's the men's; we've, I'LL, don't, 'S 'sleeve' rock'n'roll",
    "100% cotton, 36-38, €1.299,00, ½ off, ①②③",
    "caf\u00e9 and cafe\u0301, \u0130stanbul, STRASSE Straße, ﬁne \uff21\uff22",
    "&amp; &lt;b&gt; &#39;quoted&#39; &eacute; <br/>",
    "👗👠 👩‍👩‍👧‍👦 🇩🇪 ❤️ 👍🏽",
    "赤いドレス красное платье فستان أحمر אדומה ชุดสีแดง",
    "zero\u200bwidth, \ufeffmark, \u202eright-to-left, nul\x00, \x1b[31m",
    "<|startoftext|>shirt<|endoftext|> after the end",
    "<|STARTOFTEXT|> <|EndOfText|> <| endoftext |>",
    "</w> shirt</w> ##ing",
    "a" * 3000,
    "jeans " * 200,
    "_" * 90 + "x",
]


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_folder(tiny_checkpoint, context_length=77)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(tiny_checkpoint)


def expected_ids(reference, text: str) -> list[int]:
    return reference(text, truncation=True, max_length=77)["input_ids"]


@pytest.mark.parametrize("text", NASTY)
def test_ids_equal_those_of_transformers(tokenizer, reference, text):
    assert tokenizer.encode([text])[0].tolist() == expected_ids(reference, text)


@settings(max_examples=150)
@given(text=st.text(max_size=60))
def test_ids_equal_those_of_transformers_for_any_text(tokenizer, reference, text):
    assert tokenizer.encode([text])[0].tolist() == expected_ids(reference, text)


@settings(max_examples=40)
@given(texts=st.lists(st.text(max_size=20), max_size=6))
def test_a_batch_holds_what_its_texts_hold_alone_padded_to_the_longest(tokenizer, texts):
    batch = tokenizer.encode(texts)
    alone = [tokenizer.encode([text])[0] for text in texts]
    assert batch.dtype == np.int32
    assert batch.shape == (len(texts), max((len(row) for row in alone), default=2))
    for row, ids in zip(batch, alone, strict=True):
        assert row[: len(ids)].tolist() == ids.tolist()
        assert set(row[len(ids) :].tolist()) <= {tokenizer.end_id}


def test_a_text_beyond_the_context_is_cut_before_its_end_token(tokenizer):
    row = tokenizer.encode(["blue jeans " * 100])[0]
    assert len(row) == 77
    assert row[0] == tokenizer.start_id
    assert row[-1] == tokenizer.end_id
    assert tokenizer.end_id not in row[:-1]


def test_padding_to_a_width_is_refused_where_it_cannot_be(tokenizer):
    assert tokenizer.encode(["a"], pad_to=77).shape == (1, 77)
    with pytest.raises(ValueError, match=r"pad_to is 78; it must be 3 to 77 here"):
        tokenizer.encode(["a"], pad_to=78)
    with pytest.raises(ValueError, match=r"pad_to is 2; it must be 3 to 77 here"):
        tokenizer.encode(["a"], pad_to=2)


@pytest.mark.parametrize("legacy", [False, True], ids=["first end token", "highest id"])
def test_padding_changes_no_vector_whichever_way_the_end_is_found(tmp_path, legacy):
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "m", legacy_end_of_text=legacy))
    engine = open_engine(checkpoint, device="cpu", precision="float32")
    texts = ["red shirt", "", "jeans " * 200, "<|endoftext|> shirt"]
    short = engine.encode_tokens(checkpoint.tokenizer.encode(texts))
    padded = engine.encode_tokens(checkpoint.tokenizer.encode(texts, pad_to=77))
    alone = np.concatenate(
        [engine.encode_tokens(checkpoint.tokenizer.encode([text])) for text in texts]
    )
    assert np.abs(short - padded).max() < 1e-5
    assert np.abs(short - alone).max() < 1e-5


def test_the_end_token_has_the_highest_id_so_that_the_old_rule_finds_it(tokenizer):
    tokens = tokenizer.encode(["red shirt", "", "jeans " * 200], pad_to=77)
    first_end = (tokens == tokenizer.end_id).argmax(axis=1)
    assert tokens.argmax(axis=1).tolist() == first_end.tolist()


def test_half_a_surrogate_pair_costs_a_character_and_not_the_run(tokenizer):
    broken = json.loads('"\\ud83d shirt"')  # as in many JSON files
    assert tokenizer.encode([broken]).tolist() == tokenizer.encode(["? shirt"]).tolist()


def test_a_caption_of_50_mb_is_cut_first(tokenizer):
    text = "blue jeans " * 5_000_000
    assert tokenizer.encode([text]).tolist() == tokenizer.encode([text[:2000]]).tolist()
    spaces = " " * (2 * MAX_CHARS) + "jeans"
    assert tokenizer.encode([spaces]).tolist() == tokenizer.encode(["jeans"]).tolist()


@pytest.mark.parametrize("value", [None, 3.5, b"shirt", ["shirt"]])
def test_what_is_no_string_is_refused(tokenizer, value):
    with pytest.raises(TypeError):  # beartype, which checks types in tests, reports it first
        tokenizer.encode([value])


def test_threads_share_one_tokenizer(tokenizer):
    texts = [f"{word} {number}" for word in ("red shirt", "blue jeans") for number in range(100)]
    expected = [tokenizer.encode([text]).tolist() for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: tokenizer.encode([text]).tolist(), texts * 3))
    assert found == expected * 3


def test_vocabulary_and_merges_do_instead_of_tokenizer_json(tokenizer, tiny_checkpoint, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tiny_checkpoint / name, tmp_path)
    slow = Tokenizer.from_folder(tmp_path, context_length=77)
    assert slow.encode(NASTY).tolist() == tokenizer.encode(NASTY).tolist()


def test_the_vocabulary_as_openai_released_it_does_too(tokenizer, tiny_checkpoint, tmp_path):
    merges = (tiny_checkpoint / "merges.txt").read_text(encoding="utf-8")
    (tmp_path / RELEASED).write_bytes(gzip.compress(merges.strip().encode()))
    released = Tokenizer.from_folder(tmp_path, context_length=77)
    assert released.encode(NASTY).tolist() == tokenizer.encode(NASTY).tolist()


def test_a_file_without_start_and_end_gets_them(tokenizer, tiny_checkpoint, tmp_path):
    content = json.loads(tokenizer.files()["tokenizer.json"])
    content["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    bare = Tokenizer.from_folder(tmp_path, context_length=77)
    assert bare.encode(NASTY).tolist() == tokenizer.encode(NASTY).tolist()


def test_padding_and_truncation_stored_in_a_file_are_put_aside(tokenizer, tmp_path):
    rules = Rules.from_str(tokenizer.files()["tokenizer.json"])
    rules.enable_padding(length=32, pad_id=0)
    rules.enable_truncation(8)
    rules.save(str(tmp_path / "tokenizer.json"))
    other = Tokenizer.from_folder(tmp_path, context_length=77)
    assert other.encode(NASTY).tolist() == tokenizer.encode(NASTY).tolist()


@pytest.mark.parametrize("kind", [["tokenizer.json"], ["vocab.json", "merges.txt"]])
def test_the_files_it_writes_read_back(tokenizer, reference, tmp_path, kind):
    from transformers import CLIPTokenizer

    for name, content in tokenizer.files().items():
        if name in kind or name.endswith(("_config.json", "_map.json")):
            (tmp_path / name).write_text(content, encoding="utf-8")
    again = Tokenizer.from_folder(tmp_path, context_length=77)
    assert again.encode(NASTY).tolist() == tokenizer.encode(NASTY).tolist()
    theirs = CLIPTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 77
    for text in NASTY:
        assert theirs(text, truncation=True)["input_ids"] == expected_ids(reference, text)


def test_a_folder_without_a_tokenizer_says_which_files_to_bring(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json, nor vocab\.json with merg"):
        Tokenizer.from_folder(tmp_path, context_length=77)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"model": {}}'),
        ("vocab.json", "[1, 2]"),
        (RELEASED, "not gzip"),
    ],
)
def test_a_broken_tokenizer_is_one_line(tmp_path, name, content):
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"the tokenizer in .* cannot be read") as caught:
        Tokenizer.from_folder(tmp_path, context_length=77)
    assert "\n" not in str(caught.value)


def test_another_models_tokenizer_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0, "[CLS]": 1}', encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"has no <\|startoftext\|> and .* it is not CLIP's"):
        Tokenizer.from_folder(tmp_path, context_length=77)
