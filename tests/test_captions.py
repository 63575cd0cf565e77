"""Captions and prompts."""

import pytest

from fashionclip.text.captions import PROMPT_TEMPLATES, build_caption, prompts, read_templates


def test_a_caption_joins_the_short_description_and_the_highlights():
    caption = build_caption(["stripes", "long sleeves"], "80s styled t-shirt")
    assert caption == "80s styled t-shirt, stripes, long sleeves"


def test_a_caption_has_each_phrase_once_on_one_line():
    assert build_caption(["Stripes", " stripes\n", ""], "Red\tshirt ") == "Red shirt, Stripes"


def test_a_product_without_words_has_an_empty_caption():
    assert build_caption([], "  ") == ""


def test_a_label_is_put_into_every_template():
    assert prompts("boots", ["a photo of {}", "{}!"]) == ["a photo of boots", "boots!"]
    assert prompts("boots") == ["boots"]
    assert prompts("boots", "product") == ["a photo of a boots"]


def test_a_label_with_braces_is_left_as_it_is():
    assert prompts("{0} {x}", "product") == ["a photo of a {0} {x}"]


@pytest.mark.parametrize("name", sorted(PROMPT_TEMPLATES))
def test_every_named_template_has_a_place_for_the_label(name):
    assert all("{}" in template for template in read_templates(name))


def test_a_template_without_a_place_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'photo' has no \{\} for the label"):
        read_templates("photo")
    with pytest.raises(ValueError, match="at least one"):
        read_templates([])
