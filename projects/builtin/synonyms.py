"""Count the words that no caption of the training data uses and a model understands all the same.

    python projects/builtin/synonyms.py [MODEL]

prints, for each of fifty such words, the nearest of ``TYPES`` in the space of text vectors. A model
that was trained on captions alone can know them only by their letters.
"""

import argparse
from collections.abc import Mapping, Sequence

from fashionclip import FashionCLIP

TYPES = (
    *("t-shirt", "shirt", "sweater", "jacket", "blazer", "dress", "skirt", "trousers", "shorts"),
    *("briefs", "undershirt", "nightdress", "socks", "tights", "sneakers", "formal shoes"),
    *("high heels", "sandals", "flip flops", "boots", "hat", "scarf", "tie", "gloves"),
    *("sunglasses", "handbag", "backpack", "wallet", "umbrella", "watch", "necklace", "belt"),
)
"""The types that words are compared with; chance is 1 in 32."""
SYNONYMS: Mapping[str, Sequence[str]] = {
    "sweater": ("cardie",),
    "jacket": ("parka", "anorak", "windcheater", "mackintosh", "overcoat", "peacoat", "cagoule"),
    "blazer": ("tuxedo", "sportcoat", "dinner jacket"),
    "dress": ("gown",),
    "skirt": ("kilt",),
    "trousers": ("pantaloons", "breeches", "jodhpurs"),
    "briefs": ("undies", "knickers", "skivvies"),
    "undershirt": ("singlet",),
    "nightdress": ("nightie", "negligee", "nightshirt"),
    "tights": ("nylons",),
    "sneakers": ("plimsolls", "gym shoes"),
    "formal shoes": ("wingtips", "derbies"),
    "high heels": ("slingbacks",),
    "flip flops": ("jandals", "zori"),
    "boots": ("wellingtons", "wellies", "galoshes"),
    "hat": ("trilby", "beret", "bonnet"),
    "scarf": ("pashmina", "headscarf"),
    "tie": ("cravat", "bowtie"),
    "gloves": ("mittens", "gauntlets"),
    "sunglasses": ("sunnies", "spectacles"),
    "backpack": ("knapsack",),
    "wallet": ("billfold",),
    "umbrella": ("brolly", "parasol"),
    "necklace": ("locket",),
}
"""Words by the type that each of them means."""
TEMPLATE = "a photo of {}"


def nearest_types(model: FashionCLIP) -> dict[str, str]:
    """The nearest type to each word, by the cosine of their text vectors."""
    words = [word for some in SYNONYMS.values() for word in some]
    types, queries = (
        model.encode_text([TEMPLATE.format(word) for word in some]) for some in (TYPES, words)
    )
    return {
        word: TYPES[i] for word, i in zip(words, (queries @ types.T).argmax(axis=1), strict=True)
    }


def main() -> None:
    """Print the nearest type to each word, and how many are right."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="builtin", help="checkpoint to measure")
    nearest = nearest_types(FashionCLIP.from_pretrained(parser.parse_args().model))
    for meant, words in SYNONYMS.items():
        for word in words:
            says = "right" if nearest[word] == meant else f"wrong: {meant}"
            print(f"{word:<14} {nearest[word]:<14} {says}")
    n_right = sum(nearest[word] == meant for meant, words in SYNONYMS.items() for word in words)
    print(f"{n_right} of {len(nearest)} right; by chance {len(nearest) / len(TYPES):.1f}")


if __name__ == "__main__":
    main()
