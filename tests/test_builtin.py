"""The built-in model: small, complete, readable by transformers, and of some use."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fashionclip.checkpoint import open_checkpoint
from fashionclip.model import FashionCLIP
from fashionclip.sample import generate_images, sample_products

MOST_BYTES = 30_000_000


@pytest.fixture(scope="module")
def model() -> FashionCLIP:
    return FashionCLIP.from_pretrained(precision="float32")


def folder() -> Path:
    return open_checkpoint().folder


def test_the_package_grows_by_no_more_than_thirty_megabytes() -> None:
    assert sum(path.stat().st_size for path in folder().iterdir()) <= MOST_BYTES


def test_its_card_says_what_it_was_trained_on_and_what_it_measured() -> None:
    card = open_checkpoint().card
    assert card.startswith("---\nlanguage: en\n")
    assert "Kaggle's listing calls the data set MIT" in card.replace("\n", " ")
    assert re.search(
        r"\| Fashion-MNIST test, zero-shot.*\| 10,000 \| 0\.\d{3} \[0\.\d{3} to 0\.\d{3}\] \|", card
    )


def test_its_configuration_leaves_nothing_to_a_readers_default() -> None:
    config = json.loads((folder() / "config.json").read_text(encoding="utf-8"))
    end_id = open_checkpoint().tokenizer.end_id
    assert config["text_config"]["eos_token_id"] == end_id
    assert config["text_config"]["hidden_act"] == config["vision_config"]["hidden_act"] == "gelu"
    assert open_checkpoint().preprocess.fit == "pad"


def test_it_tells_the_colours_of_the_sample_catalogue(model: FashionCLIP) -> None:
    products = sample_products(60, seed=0)
    colours = sorted({p.attributes.colour for p in products})
    found = model.classify(generate_images(60, seed=0), [f"{c} garment" for c in colours])
    right = [
        found.label_names[int(row.argmax())] == f"{p.attributes.colour} garment"
        for p, row in zip(products, found.probabilities, strict=True)
    ]
    assert np.mean(right) > 0.4  # guessing gives 0.06


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # transformers warns about itself
def test_transformers_loads_it_unchanged_and_agrees(model: FashionCLIP) -> None:
    import torch
    from transformers import CLIPModel, CLIPProcessor

    other = CLIPModel.from_pretrained(folder()).float().eval()
    processor = CLIPProcessor.from_pretrained(folder())
    pictures = [picture.crop((0, 40, 240, 280)) for picture in generate_images(4)]
    texts = ["blue denim jeans", "a photo of a red striped t-shirt, women's!", ""]
    with torch.no_grad():
        out = other(**processor(text=texts, images=pictures, padding=True, return_tensors="pt"))
    np.testing.assert_allclose(out.image_embeds.numpy(), model.encode_images(pictures), atol=1e-4)
    np.testing.assert_allclose(out.text_embeds.numpy(), model.encode_text(texts), atol=1e-4)
