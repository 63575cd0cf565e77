"""Changes as people write them: what comparatives lead from and to, and what is refused."""

import tomllib
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionclip.searching.comparatives import known_changes, product_kinds, read_change
from fashionclip.serve.page.changes import sliders
from fashionclip.serve.page.state import State

SCALES = tomllib.loads((files("fashionclip.searching") / "comparatives.toml").read_text())["scale"]


def only(text):
    (pair,) = read_change(text).pairs
    return pair


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("darker", ("white", "black")),
        ("Lighter!", ("black", "white")),
        ("in a darker colour", ("white", "black")),
        ("colour lighter", ("black", "white")),
        ("not so dark", ("black", "white")),
        ("too dark", ("black", "white")),
        ("more formal", ("casual", "formal")),
        ("less formal", ("formal", "casual")),
        ("not as casual, please", ("casual", "formal")),
        ("a bit dressier than this one", ("casual", "formal")),
        ("shorter sleeves", ("long sleeves", "short sleeves")),
        ("with longer sleeves", ("short sleeves", "long sleeves")),
        ("sleeves a bit longer", ("short sleeves", "long sleeves")),
        ("not such a thing -> a sari", ("not such a thing", "a sari")),
        ("higher heels", ("low heels", "high heels")),
        ("a darker shade of blue", ("light blue", "dark blue")),
        ("  long skirt  /  short skirt ", ("long skirt", "short skirt")),
        ("long skirt → short skirt", ("long skirt", "short skirt")),
    ],
)
def test_a_change_leads_from_one_text_to_another(text, pair):
    assert only(text) == pair


@pytest.mark.parametrize(
    ("text", "degree"),
    [
        ("much longer", 2.0),
        ("a lot less formal", 2.0),
        ("slightly darker", 0.5),
        ("with a much shorter skirt", 2.0),
        ("even darker", 1.0),
        ("darker", 1.0),
    ],
)
def test_words_for_how_much_change_the_degree(text, degree):
    assert read_change(text).degree == degree


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("less colourful", "duller"),
        ("more colorful", "brighter"),
        ("brighter colours", "brighter"),
        ("not too loud", "duller"),
        ("less pattern", "plainer"),
    ],
)
def test_other_words_for_a_change_are_the_same_change(text, other):
    assert read_change(text).pairs == read_change(other).pairs


def test_longer_has_a_pair_for_each_kind_of_garment():
    longer, shorter = dict(read_change("longer").kinds), dict(read_change("shorter").kinds)
    assert longer["skirt"] == ("mini skirt", "maxi skirt")
    assert shorter == {kind: (after, before) for kind, (before, after) in longer.items()}
    assert longer.keys() < set(product_kinds())


@pytest.mark.parametrize("scale", SCALES)
def test_no_kind_of_product_has_two_pairs_of_a_scale(scale):
    kinds = [kind for pair in scale.get("kinds", ()) for kind in pair["of"]]
    assert len(kinds) == len(set(kinds))
    assert kinds or scale["pairs"]


@given(st.sampled_from(SCALES), st.booleans())
def test_every_form_of_a_scale_leads_to_its_own_end(scale, is_high):
    here, there = ("high", "low") if is_high else ("low", "high")
    expected = {tuple(pair if is_high else pair[::-1]) for pair in scale["pairs"]}
    expected_of_kinds = {(pair[there], pair[here]) for pair in scale.get("kinds", ())}
    forms = [
        *scale[here]["comparatives"],
        *(f"more {one}" for one in scale[here]["adjectives"]),
        *(f"less {one}" for one in scale[there]["adjectives"]),
        *(f"not so {one}" for one in scale[there]["adjectives"]),
        *(f"too {one}" for one in scale[there]["adjectives"]),
    ]
    for form in forms:
        change = read_change(form)
        assert set(change.pairs) == expected, form
        assert {pair for _, pair in change.kinds} == expected_of_kinds, form


def test_no_word_of_the_table_is_on_two_scales():
    ends = [scale[end] for scale in SCALES for end in ("low", "high")]
    for kind in ("adjectives", "comparatives"):
        words = [word for end in ends for word in end[kind]]
        assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a change is empty"),
        (" \t", "a change is empty"),
        ("/", "is no pair"),
        ("a skirt /", "is no pair"),
        ("a / b / c", "is no pair"),
        ("Red skirt / red  SKIRT", "from and to are the same"),
        ("quirkier", "no change is known as 'quirkier'"),
        ("dark", "no change is known as 'dark'"),
        ("w/o sleeves", "no change is known as 'w/o sleeves': write from and to"),
        ("w/ sleeves", "no change is known"),
        ("long skirt/short skirt", "such as 'long skirt / short skirt'"),
        ("shorter but darker", "pass each change as one of its own"),
        ("not darker", "pass each change as one of its own"),
        ("darker, longer", "pass each change as one of its own"),
        ("longer darker sleeves", "pass each change as one of its own"),
        ("2 cm longer", "is not understood"),
        ("isn't darker", "is not understood"),
        ("never darker", "is not understood"),
        ("darker than the black dress", "is not understood"),
        ("deeper neckline", "is not understood"),
        ("warmer colours", "is not understood"),
        ("darker " + "and so on " * 50, "is not understood"),
    ],
)
def test_what_is_no_change_is_refused_in_one_line(text, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        read_change(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_an_unknown_comparative_is_told_what_is_known():
    with pytest.raises(ValueError, match="shorter, longer, darker, lighter"):
        read_change("cheaper")
    for name in known_changes():
        change = read_change(name)
        assert change.pairs or change.kinds


@given(st.text(max_size=60))
def test_any_text_is_a_change_or_refused(text):
    try:
        change = read_change(text)
    except ValueError:
        return
    pairs = [*change.pairs, *(pair for _, pair in change.kinds)]
    assert pairs
    assert all(before and after and before != after for before, after in pairs)


@given(st.lists(st.integers(-2, 2), min_size=4, max_size=4))
def test_a_form_without_script_and_the_url_are_one_search(values):
    wanted = dict(zip(["length", "shade", "formality", "colours"], values, strict=True))
    asked = State.read([("like", "P00"), *((f"but.{name}", str(n)) for name, n in wanted.items())])
    assert State.read(asked.pairs()) == asked
    assert {one.name: one.value for one in sliders(asked.but)} == wanted
    for text in asked.but:
        assert read_change(text)
