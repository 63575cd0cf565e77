# %% [markdown]
# # The catalogue doctor
#
# The doctor looks for what is wrong with a catalogue's pictures, captions and labels. This
# example plants five faults into the sample catalogue (`fashionclip demo --into sample` makes
# it): a blurred picture, a dark one, one of another product, an empty one, and two products in
# one.

# %%
import csv

from PIL import Image, ImageFilter

with open("sample/catalog.csv", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))

pictures = [Image.open("sample/" + row["image"]).convert("RGB") for row in rows]
two = Image.new("RGB", (600, 300), "white")
two.paste(pictures[11].resize((300, 300)), (0, 0))
two.paste(pictures[60].resize((300, 300)), (300, 0))
planted = {
    3: pictures[3].filter(ImageFilter.GaussianBlur(9)),
    5: pictures[5].point(lambda value: value // 5),
    7: pictures[40],
    9: Image.new("RGB", (300, 300), "white"),
    11: two,
}
for i, image in planted.items():
    image.save(f"sample/images/planted-{i}.png")
    rows[i]["image"] = f"images/planted-{i}.png"
with open("sample/faulty.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
print([rows[i]["id"] for i in planted])

# %% [markdown]
# A finding names the product, says what is seen, how sure that is, and what to do.

# %%
from fashionclip import Catalog, FashionCLIP
from fashionclip.doctor import examine_catalog

report = examine_catalog(Catalog.open("sample/faulty.csv"), FashionCLIP())
for finding in report.findings:
    print(f"{finding.kind:16} {finding.confidence:.2f} {', '.join(finding.product_ids)}")
    print("   ", finding.evidence)

# %% [markdown]
# `fashionclip doctor sample/faulty.csv --html page.html` writes the same as a page to work through.
# What you mark as fine there stays away the next time, until the picture or caption changes.
