"""How people call what the built-in model learns from: articles, sleeves, fabrics."""

from collections.abc import Mapping, Sequence

NAMES: Mapping[str, Sequence[str]] = {
    "Tshirts": ("t-shirt", "tee", "tshirt"),
    "Casual Shoes": ("casual shoes", "sneakers", "sneaker", "shoes"),
    "Sports Shoes": ("sports shoes", "running shoes", "sneakers", "sneaker", "trainers"),
    "Formal Shoes": ("formal shoes", "leather shoes", "shoes"),
    "Flats": ("flats", "flat shoes", "ballerinas"),
    "Heels": ("heels", "high heels", "heeled sandals"),
    "Sandals": ("sandals", "sandal"),
    "Flip Flops": ("flip flops", "flip-flops", "slippers"),
    "Sweaters": ("sweater", "pullover", "jumper"),
    "Sweatshirts": ("sweatshirt", "pullover", "hoodie"),
    "Jackets": ("jacket", "coat"),
    "Trousers": ("trousers", "trouser", "pants"),
    "Track Pants": ("track pants", "trousers", "sweatpants"),
    "Jeans": ("jeans", "denim jeans", "trousers"),
    "Handbags": ("handbag", "bag"),
    "Backpacks": ("backpack", "bag", "rucksack"),
    "Dresses": ("dress",),
    "Caps": ("cap", "hat"),
    "Kurtas": ("kurta", "long tunic"),
    "Sunglasses": ("sunglasses",),
    "T-Shirt": ("t-shirt", "tee"),
    "Pants": ("pants", "trousers"),
    "Longsleeve": ("long-sleeved top", "pullover", "long sleeve t-shirt"),
    "Shoes": ("shoes", "sneakers", "shoe"),
    "Outwear": ("coat", "jacket", "outerwear"),
    "Undershirt": ("undershirt", "tank top"),
    "Polo": ("polo shirt",),
    "Body": ("bodysuit", "baby body"),
    "boots": ("boots", "ankle boots", "ankle boot"),
    "sneakers": ("sneakers", "sneaker", "trainers", "shoes"),
    "sandals": ("sandals", "sandal"),
    "heels": ("heels", "high heels", "pumps"),
    "trousers": ("trousers", "trouser", "pants"),
    "sweater": ("sweater", "pullover", "jumper"),
    "jacket": ("jacket", "coat"),
    "handbag": ("handbag", "bag"),
    "backpack": ("backpack", "bag"),
    "cap": ("cap", "baseball cap", "hat"),
}
_SAYINGS: Mapping[str, Mapping[str, str]] = {
    "sleeve": {"short": "short sleeves", "long": "long sleeves", "no sleeves": "sleeveless"},
    "neck": {"round": "round neck", "hood": "hooded"},
    "fabric": {"pure cotton": "cotton"},
}


def article_words(label: str) -> tuple[str, ...]:
    """How people call a label of the sources: the usual word first."""
    if label in NAMES:
        return tuple(NAMES[label])
    plain = lowered(label)
    ends_singly = plain.endswith(
        ("ss", "jeans", "trousers", "shorts", "pants", "glasses", "leggings")
    )
    return (plain,) if ends_singly or not plain.endswith("s") else (plain[:-1], plain)


def lowered(value: str) -> str:
    """In small letters, with single spaces."""
    return " ".join(value.casefold().split())


def sleeved(sleeves: str) -> str:
    """``short sleeves`` as people say it before a noun: ``short-sleeved``."""
    return sleeves.removesuffix(" sleeves") + "-sleeved" if " " in sleeves else sleeves


def said(facet: str, value: str | None) -> str:
    """A value as people say it: ``short`` of a sleeve is ``short sleeves``."""
    return _SAYINGS.get(facet, {}).get(value or "", value or "")
