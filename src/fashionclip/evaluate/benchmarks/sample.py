"""The drawn sample catalogue: nothing to fetch, and everything that is seen is known.

Figures on drawings say what a model cannot see at all, not how well it will do on photographs.
"""

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import numpy as np

from fashionclip.evaluate.benchmarks.base import Loaded, class_labels, group_by
from fashionclip.evaluate.benchmarks.wrong_words import wrong_attribute_task
from fashionclip.evaluate.tasks import ImageRef, Task, ZeroShot
from fashionclip.sample import SampleProduct, generate_image, sample_products

N_PRODUCTS, SEED = 400, 0
"""The catalogue as it is shipped; the built-in model learned from other drawings."""
N_DEVELOPMENT, DEVELOPMENT_SEED = 100, 7
_WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "category": {
            "t-shirt": ("t-shirt", "tee"),
            "sweater": ("sweater", "jumper", "pullover"),
            "hoodie": ("hoodie", "hooded sweatshirt"),
            "trousers": ("trousers", "pants"),
            "jeans": ("jeans", "denim trousers"),
            "sneakers": ("sneakers", "trainers", "sports shoes"),
            "boots": ("boots", "ankle boots"),
            "heels": ("high heels", "pumps", "heels"),
            "handbag": ("handbag", "purse"),
            "backpack": ("backpack", "rucksack"),
            "cap": ("cap", "baseball cap"),
        },
        "colour": {"grey": ("grey", "gray")},
        "pattern": {
            "solid": ("plain", "solid", "single-coloured"),
            "striped": ("striped", "stripy"),
            "checked": ("checked", "plaid"),
            "dotted": ("dotted", "polka-dotted"),
            "floral": ("floral", "flower-printed"),
            "graphic": ("graphic print", "printed"),
        },
        "sleeve": {
            "short": ("short-sleeved garment", "garment with short sleeves"),
            "long": ("long-sleeved garment", "garment with long sleeves"),
            "sleeveless": ("sleeveless garment", "garment without sleeves"),
        },
        "neckline": {
            "round": ("garment with a round neck", "crew neck"),
            "v-neck": ("garment with a v-neck", "v-neck"),
            "collar": ("garment with a collar", "shirt collar"),
            "turtleneck": ("garment with a turtleneck", "roll neck"),
            "hood": ("garment with a hood", "hooded"),
        },
    }
)
_IN_CAPTION: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "pattern": {"solid": "plain", "graphic": "printed"},
        "sleeve": {"short": "short-sleeved", "long": "long-sleeved"},
        "neckline": {
            "round": "round-necked",
            "v-neck": "v-necked",
            "collar": "collared",
            "hood": "hooded",
        },
    }
)
_ALIKE = (
    frozenset({"blue", "navy", "light blue"}),
    frozenset({"brown", "beige"}),
    frozenset({"red", "burgundy"}),
)


class DrawnSample:
    """The sample catalogue, sorted by what is drawn, and captions with one wrong word."""

    name = "sample"
    title = "the drawn sample catalogue, 400 products"
    how_to_get = "it is drawn; nothing needs to be fetched"
    places: tuple[str, ...] = ()

    def load(self, folder: Path) -> Loaded:
        """Draw the products; ``folder`` is not looked at."""
        test = _drawn(N_PRODUCTS, SEED)
        development = _drawn(N_DEVELOPMENT, DEVELOPMENT_SEED)
        tasks: list[Task] = [_zero_shot(facet, test, development) for facet in _WORDS]
        for facet in ("colour", "pattern", "sleeve", "neckline"):
            known = [
                (image, product.attributes.category, _IN_CAPTION.get(facet, {}).get(value, value))
                for product, image in test
                if (value := _value(product, facet))
            ]
            task = wrong_attribute_task(
                f"sample/wrong-{facet}", facet, known, alike=_ALIKE, notes=(_NOTE,)
            )
            if task:
                tasks.append(task)
        return Loaded(tuple(tasks))


_NOTE = "Drawings, not photographs."


def _drawn(n_products: int, seed: int) -> list[tuple[SampleProduct, ImageRef]]:
    def draw(product: SampleProduct) -> tuple[SampleProduct, ImageRef]:
        file = io.BytesIO()
        drawing = generate_image(product.attributes, seed=product.seed)
        drawing.save(file, "jpeg", quality=90)  # as ``write_sample_catalog`` does
        image_id = product.product_id if seed == SEED else f"{product.product_id}-{seed}"
        return product, ImageRef(image_id, file.getvalue(), product.title)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(draw, sample_products(n_products, seed=seed)))


def _value(product: SampleProduct, facet: str) -> str:
    return getattr(product.attributes, facet) or ""


def _zero_shot(
    facet: str,
    test: Sequence[tuple[SampleProduct, ImageRef]],
    development: Sequence[tuple[SampleProduct, ImageRef]],
) -> ZeroShot:
    names = sorted(group_by([_value(product, facet) for product, _ in test]))
    row = {name: number for number, name in enumerate(names)}

    def labelled(
        drawn: Sequence[tuple[SampleProduct, ImageRef]],
    ) -> tuple[tuple[ImageRef, ...], np.ndarray]:
        kept = [(image, row[v]) for product, image in drawn if (v := _value(product, facet))]
        labels = np.array([label for _, label in kept], dtype=np.int64)
        return tuple(image for image, _ in kept), labels

    images, labels = labelled(test)
    development_images, development_labels = labelled(development)
    left_out = f"; {len(test) - len(images)} products have no {facet}"
    return ZeroShot(
        name=f"sample/{facet}",
        classes=class_labels(names, _WORDS[facet]),
        images=images,
        labels=labels,
        development=f"other drawings, seed {DEVELOPMENT_SEED}",
        development_images=development_images,
        development_labels=development_labels,
        notes=(f"{len(names)} classes{left_out if len(images) < len(test) else ''}.", _NOTE),
    )
