"""The page that ``fashionclip doctor --html`` writes: findings to work through, one after another.

It loads nothing from elsewhere. Its script is in the page, allowed by its digest alone.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fashionclip.atomic import whole_file
from fashionclip.cli.pages import render_page, thumbnail_uri

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.doctor import Finding, Report
    from fashionclip.product import Product

MAX_PER_KIND = 120
"""Findings of a kind on the page, the most certain first; the table has all."""
MAX_SHOWN = 6
"""Products of a finding that are shown side by side."""
THUMBNAIL_PX = 280
FETCH_THREADS = 8


def write_doctor_page(path: Path, catalog: "Catalog", report: "Report") -> None:
    """Write the findings as an HTML page that loads nothing from elsewhere.

    Args:
        path: the HTML file.
        catalog: what was examined; the pictures of findings are read from it anew.
        report: what was found.

    Raises:
        CatalogError: the table cannot be read on.
        OSError: the file cannot be written.
    """
    from fashionclip.doctor import KINDS, TITLES

    shown: list[Finding] = []
    for kind in KINDS:
        shown += [one for one in report.findings if one.kind == kind][:MAX_PER_KIND]
    products = _products(catalog, {i for one in shown for i in one.product_ids[:MAX_SHOWN]})
    counts = {kind: sum(one.kind == kind for one in report.findings) for kind in KINDS}
    script = files("fashionclip.cli").joinpath("templates/doctor.js").read_text("utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    name = Path(catalog.location).name or catalog.location
    page = render_page(
        "doctor.html.jinja",
        name=name,
        report=report,
        kinds=[(kind, TITLES[kind], counts[kind]) for kind in KINDS if counts[kind]],
        titles=TITLES,
        findings=[(one, [products.get(i) for i in one.product_ids[:MAX_SHOWN]]) for one in shown],
        n_left_out=len(report.findings) - len(shown),
        not_judged=[*((TITLES[p.kind], p.reason) for p in report.pictures if p.reason)]
        + [(text.name, text.reason) for text in report.texts if text.reason],
        fine=json.dumps(list(report.fine)),
        script=script,
        digest=digest,
    )
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8", errors="replace")


def _products(catalog: "Catalog", wanted: set[str]) -> Mapping[str, Mapping[str, object]]:
    """What the page shows of some products, by id."""
    from fashionclip.product import Product

    found = [one for one in catalog if isinstance(one, Product) and one.product_id in wanted]

    def shown(product: "Product") -> tuple[str, Mapping[str, object]]:
        roles = catalog.roles
        names = [name for name in (roles.category, roles.colour, roles.brand) if name]
        facts = {name: product.columns.get(name) for name in names}
        title = product.columns.get(roles.title or "") or product.caption or product.product_id
        return product.product_id, {
            "id": product.product_id,
            "row": product.row,
            "title": str(title),
            "facts": {name: value for name, value in facts.items() if value is not None},
            "image": _thumbnail(catalog, product),
        }

    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        return dict(pool.map(shown, found))


def _thumbnail(catalog: "Catalog", product: "Product") -> str | None:
    from fashionclip.errors import ImageFetchError

    try:
        return thumbnail_uri(catalog.read_image(product), max_px=THUMBNAIL_PX)
    except ImageFetchError:
        return None
