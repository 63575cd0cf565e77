"""Names of categories and attribute values, as people write them in captions and queries."""

from collections.abc import Mapping, Sequence

SYNONYMS: Mapping[str, Sequence[str]] = {
    "Tshirts": ("t-shirt", "tee", "tshirt"),
    "Casual Shoes": ("casual shoes", "sneakers", "sneaker", "shoes"),
    "Sports Shoes": ("sports shoes", "running shoes", "sneakers", "sneaker", "trainers"),
    "Formal Shoes": ("formal shoes", "leather shoes", "shoes"),
    "Flats": ("flat shoes", "flats", "ballerinas"),
    "Heels": ("high heels", "heels", "heeled sandals"),
    "Sandals": ("sandals", "sandal"),
    "Flip Flops": ("flip-flops", "flip flops", "slippers"),
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
    "Watches": ("watch", "wristwatch"),
    "Socks": ("socks", "pair of socks"),
    "Briefs": ("briefs", "underpants"),
    "Boxers": ("boxer shorts", "boxers"),
    "Trunk": ("men's trunks", "trunks", "underpants"),
    "Innerwear Vests": ("undershirt", "innerwear vest"),
    "Capris": ("capri pants", "capris"),
    "Jeggings": ("jeggings", "leggings"),
    "Stockings": ("stockings",),
    "Tights": ("tights",),
    "Scarves": ("scarf",),
    "Gloves": ("gloves",),
    "Clutches": ("clutch bag", "clutch", "bag"),
    "Earrings": ("earrings", "earring"),
    "Necklace and Chains": ("necklace", "chain necklace"),
    "Cufflinks": ("cufflinks",),
    "Shoe Accessories": ("shoe care product", "shoe accessories"),
    "Hoodie": ("hoodie", "hooded sweatshirt"),
    "Cardigan": ("cardigan",),
    "Waistcoat": ("vest", "waistcoat"),
    "Winter Jacket": ("winter jacket", "winter coat", "jacket"),
    "Jumpsuit": ("jumpsuit",),
    "Rompers": ("romper", "playsuit"),
    "Overalls": ("overalls", "dungarees"),
    "Swimwear": ("swimsuit", "swimwear", "bikini"),
    "Night suits": ("pyjamas", "pajama set"),
    "Skirts": ("skirt",),
    "Innerwear": ("underwear", "innerwear"),
    "Sports Sandals": ("sports sandals", "sports sandal"),
    "Rucksacks": ("trekking rucksack", "rucksack"),
    "Mobile Pouch": ("mobile phone pouch", "mobile pouch"),
    "Clothing Set": ("set of clothes", "clothing set"),
    "Perfume and Body Mist": ("perfume", "perfume and body mist"),
    "Kajal and Eyeliner": ("eyeliner", "kajal and eyeliner"),
    "Foundation and Primer": ("foundation make-up", "foundation and primer"),
    "Blouse": ("blouse",),
    "Tops": ("top",),
    "T-Shirt": ("t-shirt", "tee"),
    "Pants": ("pants", "trousers"),
    "Longsleeve": ("long-sleeved top", "pullover", "long sleeve t-shirt"),
    "Shoes": ("shoes", "pair of shoes", "shoe"),
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
"""The usual name of a category comes first, as benchmarks have it. Keys are the sources' labels."""
_VALUE_NAMES: Mapping[str, Mapping[str, str]] = {
    "sleeve": {"short": "short sleeves", "long": "long sleeves", "no sleeves": "sleeveless"},
    "neckline": {"round": "round neck", "hood": "hooded"},
    "material": {"pure cotton": "cotton"},
}
FORMS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "neckline": {
        "round neck": ("round-necked", "crew-neck", "with a round neck", "with a crew neck"),
        "v-neck": ("v-necked", "with a v-neck", "with a V-shaped neckline"),
        "collar": ("collared", "with a collar", "with a shirt collar"),
        "hooded": ("with a hood",),
        "turtleneck": ("turtlenecked", "roll-neck", "with a turtleneck", "with a roll neck"),
    },
    "sleeve": {
        "short sleeves": ("short-sleeved", "short-sleeve", "with short sleeves"),
        "long sleeves": ("long-sleeved", "long-sleeve", "with long sleeves"),
        "sleeveless": ("without sleeves", "with no sleeves"),
    },
    "pattern": {
        "solid": ("plain", "single-coloured", "unpatterned", "without a pattern"),
        "striped": ("stripy", "stripey", "with stripes"),
        "checked": ("plaid", "checkered", "chequered", "tartan", "with checks"),
        "dotted": ("polka-dotted", "polka dot", "spotted", "with dots"),
        "floral": ("flowered", "flowery", "flower-printed", "with flowers"),
    },
    "colour": {
        "grey": ("gray",),
        "navy": ("navy blue",),
        "off white": ("off-white",),
        "skin": ("skin-coloured",),
        "steel": ("steel-coloured",),
        "multi": ("multicoloured", "colourful", "in many colours"),
    },
}
"""Other ways to say an attribute's value: before the noun or, with a preposition, after it."""
_PLURAL_ONLY = ("ss", "jeans", "trousers", "shorts", "pants", "glasses", "leggings")


def category_names(label: str) -> tuple[str, ...]:
    """Names of a category label, the usual one first."""
    if label in SYNONYMS:
        return tuple(SYNONYMS[label])
    name = normalize(label)
    has_singular = name.endswith("s") and not name.endswith(_PLURAL_ONLY)
    return (name[:-1], name) if has_singular else (name,)


def value_name(attribute: str, value: str | None) -> str:
    """An attribute value as people write it: ``short`` of ``sleeve`` is ``short sleeves``."""
    name = normalize(value or "")
    return _VALUE_NAMES.get(attribute, {}).get(name, name)


def normalize(value: str) -> str:
    """Lower case, with single spaces."""
    return " ".join(value.casefold().split())


def as_adjective(sleeve: str) -> str:
    """A sleeve before a noun: ``short sleeves`` is ``short-sleeved``."""
    return sleeve.removesuffix(" sleeves") + "-sleeved" if " " in sleeve else sleeve
