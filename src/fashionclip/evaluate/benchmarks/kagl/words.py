"""How a person says Kaggle's labels: the usual words first, then synonyms."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from fashionclip.evaluate.benchmarks.wrong_words import is_plural

_ARTICLE_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Tshirts": ("t-shirt", "tee", "tshirt"),
        "Casual Shoes": ("casual shoes", "sneakers", "loafers"),
        "Sports Shoes": ("sports shoes", "running shoes", "trainers"),
        "Formal Shoes": ("formal shoes", "leather dress shoes"),
        "Heels": ("high heels", "heels", "heeled shoes"),
        "Flats": ("flat shoes", "flats", "ballerinas"),
        "Flip Flops": ("flip-flops", "flip flops", "slippers"),
        "Sports Sandals": ("sports sandals", "trekking sandals"),
        "Watches": ("watch", "wristwatch"),
        "Ties": ("tie", "necktie"),
        "Swimwear": ("swimsuit", "swimwear"),
        "Tops": ("top", "women's top", "blouse"),
        "Kurtas": ("kurta", "long Indian tunic"),
        "Kurtis": ("kurti", "short Indian tunic"),
        "Kurta Sets": ("kurta set", "kurta with trousers"),
        "Sarees": ("saree", "sari"),
        "Dupatta": ("dupatta", "Indian shawl"),
        "Churidar": ("churidar", "tight Indian trousers"),
        "Handbags": ("handbag", "purse"),
        "Clutches": ("clutch bag", "clutch"),
        "Backpacks": ("backpack", "rucksack"),
        "Rucksacks": ("trekking rucksack", "rucksack"),
        "Duffel Bag": ("duffel bag", "gym bag"),
        "Laptop Bag": ("laptop bag", "briefcase"),
        "Sunglasses": ("sunglasses", "shades"),
        "Sweatshirts": ("sweatshirt", "hoodie"),
        "Sweaters": ("sweater", "jumper", "pullover"),
        "Jackets": ("jacket", "coat"),
        "Jeans": ("jeans", "denim trousers"),
        "Trousers": ("trousers", "pants", "chinos"),
        "Track Pants": ("track pants", "sweatpants", "joggers"),
        "Lounge Pants": ("lounge pants", "pyjama trousers"),
        "Lounge Shorts": ("lounge shorts", "pyjama shorts"),
        "Capris": ("capri pants", "capris", "cropped trousers"),
        "Briefs": ("briefs", "underpants"),
        "Trunk": ("men's trunks", "boxer briefs"),
        "Boxers": ("boxer shorts", "boxers"),
        "Bra": ("bra", "brassiere"),
        "Innerwear Vests": ("undershirt", "vest", "tank top"),
        "Caps": ("cap", "baseball cap"),
        "Nightdress": ("nightdress", "nightgown"),
        "Night suits": ("pyjamas", "night suit"),
        "Mufflers": ("muffler", "knitted scarf"),
        "Stoles": ("stole", "shawl"),
        "Scarves": ("scarf", "neck scarf"),
        "Perfume and Body Mist": ("perfume", "perfume bottle", "body mist"),
        "Deodorant": ("deodorant", "deodorant spray"),
        "Fragrance Gift Set": ("fragrance gift set", "perfume set"),
        "Accessory Gift Set": ("accessory gift set", "gift set of belt and wallet"),
        "Free Gifts": ("free gift", "gift"),
        "Nail Polish": ("nail polish", "nail varnish"),
        "Kajal and Eyeliner": ("eyeliner", "kajal"),
        "Foundation and Primer": ("foundation make-up", "primer"),
        "Necklace and Chains": ("necklace", "neck chain"),
        "Jewellery Set": ("jewellery set", "necklace and earrings"),
        "Earrings": ("earrings", "pair of earrings"),
        "Pendant": ("pendant", "pendant on a chain"),
        "Bangle": ("bangle", "rigid bracelet"),
        "Mobile Pouch": ("mobile phone pouch", "phone case"),
        "Travel Accessory": ("travel accessory", "travel bag"),
        "Shoe Accessories": ("shoe care product", "shoe polish"),
        "Clothing Set": ("set of clothes", "outfit"),
        "Jeggings": ("jeggings", "denim leggings"),
        "Innerwear": ("underwear", "innerwear", "lingerie"),
    }
)
_SUB_CATEGORIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Topwear": ("upper-body garment", "topwear", "shirt or top"),
        "Bottomwear": ("lower-body garment", "bottomwear", "trousers or skirt"),
        "Shoes": ("shoes", "pair of shoes"),
        "Sandal": ("sandals", "open shoes"),
        "Bags": ("bag", "handbag or backpack"),
        "Eyewear": ("eyewear", "glasses"),
        "Jewellery": ("jewellery", "piece of jewellery"),
        "Fragrance": ("fragrance", "scent"),
        "Loungewear and Nightwear": ("nightwear", "loungewear", "pyjamas"),
        "Headwear": ("headwear", "hat"),
        "Apparel Set": ("set of clothes", "outfit"),
        "Accessories": ("accessory", "fashion accessory"),
        "Lips": ("lip make-up", "lipstick"),
        "Nails": ("nail polish", "nail varnish"),
        "Makeup": ("make-up", "cosmetics"),
        "Eyes": ("eye make-up", "eyeliner"),
        "Skin Care": ("skin care product", "face cream"),
        "Skin": ("skin care cosmetics", "cream"),
        "Hair": ("hair product", "hair accessory"),
    }
)
_MASTER_CATEGORIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Apparel": ("clothing", "garment", "apparel"),
        "Footwear": ("footwear", "shoes"),
        "Personal Care": ("cosmetics", "personal care product"),
        "Free Items": ("free gift", "giveaway"),
        "Sporting Goods": ("sports equipment", "ball"),
        "Home": ("home decoration", "household item"),
    }
)
_OCCASIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Men": ("clothes for men", "men's fashion"),
        "Women": ("clothes for women", "women's fashion"),
        "Boys": ("clothes for boys", "boys' fashion"),
        "Girls": ("clothes for girls", "girls' fashion"),
        "Unisex": ("clothes for men and women", "unisex fashion"),
        "Summer": ("summer clothes", "summer fashion"),
        "Winter": ("winter clothes", "winter fashion"),
        "Fall": ("autumn clothes", "autumn fashion", "fall fashion"),
        "Spring": ("spring clothes", "spring fashion"),
        "Casual": ("casual wear", "everyday clothes"),
        "Sports": ("sportswear", "sports clothes"),
        "Formal": ("formal wear", "business clothes"),
        "Ethnic": ("ethnic wear", "traditional Indian clothes"),
        "Party": ("party wear", "festive clothes"),
        "Smart Casual": ("smart casual wear", "smart casual clothes"),
        "Travel": ("travel wear", "travel accessory"),
    }
)
_COLOURS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Multi": ("multicoloured", "many-coloured"),
        "Grey": ("grey", "gray"),
        "Grey Melange": ("grey melange", "heather grey"),
        "Off White": ("off-white", "ivory"),
        "Maroon": ("maroon", "dark red"),
        "Charcoal": ("charcoal", "dark grey"),
        "Steel": ("steel-coloured", "stainless steel"),
        "Skin": ("skin-coloured", "flesh-coloured"),
        "Metallic": ("metallic", "shiny metal"),
        "Coffee Brown": ("coffee brown", "dark brown"),
        "Turquoise Blue": ("turquoise", "turquoise blue"),
    }
)
_WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "articleType": _ARTICLE_TYPES,
        "subCategory": {**_ARTICLE_TYPES, **_SUB_CATEGORIES},
        "masterCategory": _MASTER_CATEGORIES,
        "baseColour": _COLOURS,
        "gender": _OCCASIONS,
        "season": _OCCASIONS,
        "usage": _OCCASIONS,
    }
)


def words_of(column: str, labels: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What a person says for each label of one of Kaggle's columns, the usual words first."""
    listed = _WORDS[column]
    return {label: listed.get(label) or (_singular(label),) for label in labels}


def _singular(label: str) -> str:
    """``Leather Belts`` to ``leather belt``."""
    plain = " ".join(label.casefold().split())
    if is_plural(plain) or not plain.endswith("s") or plain.endswith("ss"):
        return plain
    for ending, single in (("sses", "ss"), ("ches", "ch"), ("ies", "y"), ("s", "")):
        if plain.endswith(ending):
            return plain.removesuffix(ending) + single
    return plain
