"""What was done with a feed, in sentences."""

from fashionclip.catalog.feeds.feed import PLAIN
from fashionclip.catalog.feeds.rules import Rules
from fashionclip.catalog.feeds.spool import MAX_GROUP_ROWS
from fashionclip.catalog.feeds.variants import MAX_FURTHER_IMAGES, Findings

_SENTENCES = {
    "parents": (
        "1 row only holds what its variants share and is no product of its own ({first})",
        "{n:,} rows only hold what their variants share and are no products of their own "
        "(first: {first})",
    ),
    "pictures": (
        "1 row only adds a picture, which is kept as a further view ({first})",
        "{n:,} rows only add a picture, which is kept as a further view (first: {first})",
    ),
    "blank": (
        "1 row adds neither a variant nor a picture and is left out ({first})",
        "{n:,} rows add neither a variant nor a picture and are left out (first: {first})",
    ),
    "prices": (
        "the variants of 1 product differ in price; the lowest is kept ({first})",
        "the variants of {n:,} products differ in price; the lowest is kept (first: {first})",
    ),
    "bare names": (
        "1 product names its pictures without a folder ({first}); where they are not beside the "
        "table, --images {media_url} fetches them",
        "{n:,} products name their pictures without a folder (first: {first}); where they are not "
        "beside the table, --images {media_url} fetches them",
    ),
    "not on sale": (
        "1 row is not on sale, and its sale price is left out ({first})",
        "{n:,} rows are not on sale, and their sale prices are left out (first: {first})",
    ),
    "many pictures": (
        "1 product has more than {most} further views; {most} are kept ({first})",
        "{n:,} products have more than {most} further views; {most} are kept (first: {first})",
    ),
    "orphans": (
        "1 row names a parent that is not in the table and is kept as a product of its own "
        "({first})",
        "{n:,} rows name a parent that is not in the table and are kept as products of their own "
        "(first: {first})",
    ),
    "lone translations": (
        "1 row translates a product that is not in the table and is kept as a product ({first})",
        "{n:,} rows translate products that are not in the table and are kept as products "
        "(first: {first})",
    ),
    "left out": (
        "1 row is no product and is left out ({first})",
        "{n:,} rows are no products and are left out (first: {first})",
    ),
    "drafts": (
        "1 row is not shown in the shop and is kept all the same ({first})",
        "{n:,} rows are not shown in the shop and are kept all the same (first: {first})",
    ),
    "first of": (
        "1 row lists several of a kind, of which the first is taken ({first})",
        "{n:,} rows list several of a kind, of which the first is taken (first: {first})",
    ),
    "no title": (
        "1 product has no title: the row with that of its group is not in this table ({first})",
        "{n:,} products have no title: the rows with those of their groups are not in this table "
        "(first: {first})",
    ),
    "default view": (
        "1 row of the shop's default view replaces the words of its product ({first})",
        "{n:,} rows of the shop's default view replace the words of their products "
        "(first: {first})",
    ),
    "translations": (
        "1 row translates a product for another view of the shop and is left out ({first}); "
        "--locale takes its words",
        "{n:,} rows translate products for other views of the shop and are left out "
        "(first: {first}); --locale takes their words",
    ),
    "translated": (
        "1 row of the chosen view of the shop replaces the words of its product ({first})",
        "{n:,} rows of the chosen view of the shop replace the words of their products "
        "(first: {first})",
    ),
}


def notes_of(rules: Rules, findings: Findings) -> tuple[str, ...]:
    """The notes of a feed: what it was read as, and each thing that was done with its rows."""
    counts = findings.counts
    article = "an" if rules.feed.title[0] in "AEIOUaeiou" else "a"
    notes = [f"read as {article} {rules.feed.title}; --format {PLAIN} reads the table as it is"]
    if counts["merged"]:
        products = (
            "1 product" if counts["merged into"] == 1 else f"{counts['merged into']:,} products"
        )
        notes.append(
            f"{counts['merged']:,} variants that share a picture with others of their kind are "
            f"{products}, whose options are lists"
        )
    for what, (one, many) in _SENTENCES.items():
        if n := counts[what]:
            sentence = one if n == 1 else many
            first = findings.examples[what]
            notes.append(
                sentence.format(
                    n=n, first=first, most=MAX_FURTHER_IMAGES, media_url=rules.feed.media_url
                )
            )
    if counts["split"]:
        notes.append(
            f"{counts['split']:,} rows are of groups of more than {MAX_GROUP_ROWS:,} rows, and are "
            "kept as products of their own"
        )
    if rules.micros:
        notes.append(f"amounts in millionths are divided ({', '.join(rules.micros)})")
    return tuple(notes)
