"""Speed and memory of reading the widest feeds, beside pandas and pyarrow in the same run.

A Google Merchant feed (61 columns, variants in groups) and a Magento export (90 columns) are
generated. Seconds are of this process's CPU, the best of some rounds: `open` finds the format and
decides the columns, `read` makes the products. `rows_per_s` is of `read`, `with_open` of both.
Peak memory is of a new process for each size. One line of JSON is printed for each feed.

    python benchmarks/catalog.py                  # 10,000 rows; memory at 10,000 and 100,000
    python benchmarks/catalog.py --rows 1000 --rounds 1
"""

import argparse
import csv
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MERCHANT = """
id title description link image_link additional_image_link mobile_link availability
availability_date cost_of_goods_sold expiration_date price sale_price sale_price_effective_date
unit_pricing_measure unit_pricing_base_measure installment subscription_cost loyalty_points
google_product_category product_type brand gtin mpn identifier_exists condition adult multipack
is_bundle energy_efficiency_class min_energy_efficiency_class max_energy_efficiency_class
age_group color gender material pattern size size_type size_system item_group_id product_length
product_width product_height product_weight product_detail product_highlight ads_redirect
custom_label_0 custom_label_1 custom_label_2 custom_label_3 custom_label_4 promotion_id
excluded_destination included_destination shopping_ads_excluded_country shipping shipping_label
shipping_weight tax
"""
MAGENTO = """
sku store_view_code attribute_set_code product_type categories product_websites name description
short_description weight product_online tax_class_name visibility price special_price
special_price_from_date special_price_to_date url_key meta_title meta_keywords meta_description
base_image base_image_label small_image small_image_label thumbnail_image thumbnail_image_label
swatch_image swatch_image_label created_at updated_at new_from_date new_to_date
display_product_options_in map_price msrp_price map_enabled gift_message_available custom_design
custom_design_from custom_design_to custom_layout_update page_layout product_options_container
msrp_display_actual_price_type country_of_manufacture additional_attributes qty out_of_stock_qty
use_config_min_qty is_qty_decimal allow_backorders use_config_backorders min_cart_qty
use_config_min_sale_qty max_cart_qty use_config_max_sale_qty is_in_stock notify_on_stock_below
use_config_notify_stock_qty manage_stock use_config_manage_stock use_config_qty_increments
qty_increments use_config_enable_qty_inc enable_qty_increments is_decimal_divided website_id
related_skus related_position crosssell_skus crosssell_position upsell_skus upsell_position
additional_images additional_image_labels hide_from_product_page custom_options
bundle_price_type bundle_sku_type bundle_price_view bundle_weight_type bundle_values
bundle_shipment_type associated_skus downloadable_links downloadable_samples
configurable_variations configurable_variation_labels giftcard_type
"""
DESCRIPTION = "Soft cotton tee with a round neck, short sleeves and a straight cut. " * 3


def merchant_row(i: int, rng: random.Random) -> dict[str, str]:
    colour = rng.choice(["Red", "Blue", "Green", "Black"])
    return {
        **{"id": f"sku{i:06d}", "title": f"{colour} tee {i}", "description": DESCRIPTION},
        **{"link": f"https://shop.example/p/{i}", "image_link": f"https://cdn.example/{i}.jpg"},
        "additional_image_link": f"https://cdn.example/{i}-2.jpg,https://cdn.example/{i}-3.jpg",
        **{"availability": "in_stock", "price": f"{rng.randint(5, 200)}.{i % 100:02d} EUR"},
        **{"sale_price": "4.99 EUR" if i % 3 == 0 else "", "brand": rng.choice(["Norda", "Mio"])},
        **{"google_product_category": "Apparel & Accessories > Clothing", "condition": "new"},
        **{"product_type": "Tees > Summer", "gtin": str(4006381333931 + i), "adult": "no"},
        **{"age_group": "adult", "color": colour, "gender": "unisex", "material": "cotton"},
        **{"size": "SML"[i % 3], "item_group_id": f"G{i // 3}", "is_bundle": "no"},
        **{"product_weight": f"{i % 90}.5", "custom_label_0": str(i % 7), "multipack": "1"},
    }


def magento_row(i: int, rng: random.Random) -> dict[str, str]:
    flags = [
        name
        for name in MAGENTO.split()
        if name.startswith(("use_config", "is_", "manage", "enable"))
    ]
    colour = rng.choice(["Red", "Blue"])
    return {
        **{"sku": f"MB{i:06d}", "attribute_set_code": "Top", "product_type": "simple"},
        **{"categories": "Default Category/Men/Tops", "product_websites": "base"},
        **{"name": f"{colour} tee {i}", "description": f"<p>{DESCRIPTION}</p>", "weight": "1.0000"},
        **{"product_online": "1", "visibility": "Catalog, Search", "price": f"{i % 90}.0000"},
        **{"url_key": f"tee-{i}", "meta_title": "Tee", "base_image": f"/m/b/{i}.jpg"},
        **{"small_image": f"/m/b/{i}.jpg", "thumbnail_image": f"/m/b/{i}.jpg", "qty": "100.0000"},
        **{"created_at": "1/5/24, 10:05 AM", "updated_at": "1/5/24, 10:05 AM"},
        "additional_attributes": f"color={colour},size=S,material=Cotton|Wool",
        "additional_images": f"/m/b/{i}.jpg,/m/b/{i}-back.jpg",
        **dict.fromkeys(flags, "1"),
    }


FEEDS: dict[str, tuple[str, str, Callable[[int, random.Random], dict[str, str]]]] = {
    "Google Merchant": (MERCHANT, "\t", merchant_row),
    "Magento": (MAGENTO, ",", magento_row),
}


def write_feed(path: Path, name: str, n_rows: int) -> None:
    header, delimiter, row_of = FEEDS[name]
    rng = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header.split(), delimiter=delimiter, restval="")
        writer.writeheader()
        writer.writerows(row_of(i, rng) for i in range(n_rows))


def seconds(work: Callable[[], object], rounds: int) -> float:
    """CPU seconds of this process, of the best round."""

    def once() -> Iterator[float]:
        for _ in range(rounds):
            begun = time.process_time()
            work()
            yield time.process_time() - begun

    return min(once())


def peak_mib(path: Path) -> int:
    code = (
        "import sys; from fashionclip.catalog import Catalog\n"
        "sum(1 for _ in Catalog.open(sys.argv[1]))\n"
        "print(open('/proc/self/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    found = re.search(rb"VmHWM:\s+(\d+) kB", done.stdout)
    return int(found[1]) // 1024 if found else 0


def measure(name: str, folder: Path, n_rows: int, rounds: int) -> dict[str, object]:
    from fashionclip.catalog import Catalog

    path = folder / f"{n_rows}.txt"
    write_feed(path, name, n_rows)
    delimiter = FEEDS[name][1]
    media = "https://cdn.example/media"  # so that no place is looked up on disk
    catalog = Catalog.open(path, images=media)
    open_s = seconds(lambda: Catalog.open(path, images=media), rounds)
    read_s = seconds(lambda: sum(1 for _ in catalog), rounds)
    found: dict[str, object] = {
        **{"feed": name, "columns": len(FEEDS[name][0].split()), "rows": n_rows},
        **{"rows_per_s": round(n_rows / read_s), "with_open": round(n_rows / (open_s + read_s))},
    }
    try:
        import pandas as pd
    except ModuleNotFoundError:
        pass
    else:
        pandas_s = seconds(lambda: pd.read_csv(path, sep=delimiter, low_memory=False), rounds)
        found["pandas_rows_per_s"] = round(n_rows / pandas_s)
    import pyarrow.csv

    options = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    arrow_s = seconds(lambda: pyarrow.csv.read_csv(path, parse_options=options), rounds)
    found["pyarrow_rows_per_s"] = round(n_rows / arrow_s)
    write_feed(folder / "large.txt", name, 10 * n_rows)
    found["peak_mib"] = {n_rows: peak_mib(path), 10 * n_rows: peak_mib(folder / "large.txt")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in FEEDS:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(name, Path(folder), options.rows, options.rounds)))


if __name__ == "__main__":
    main()
