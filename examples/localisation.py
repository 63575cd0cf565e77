# %% [markdown]
# # Where is it?
#
# The examples use the sample catalogue: `fashionclip demo --into sample` makes it. A map says where
# in an image a word is. It takes one pass of the image, whatever the number of words.

# %%
import csv

from PIL import Image

from fashionclip import FashionCLIP

model = FashionCLIP()
with open("sample/catalog.csv", encoding="utf-8") as file:
    products = {row["title"]: "sample/" + row["image"] for row in csv.DictReader(file)}
boots = next(path for title, path in products.items() if title.endswith("Boots"))
bag = next(path for title, path in products.items() if title.endswith("Handbag"))

# %% [markdown]
# Two products side by side, so that there is something to tell apart. `windows=2` looks at the
# image again in overlapping parts, which finds smaller things.

# %%
photo = Image.new("RGB", (640, 320), "white")
for i, path in enumerate((bag, boots)):
    one = Image.open(path).convert("RGB")
    one.thumbnail((300, 300))
    photo.paste(one, (10 + 320 * i, 10))
photo

# %%
found = model.localize(photo, ["handbag", "boots", "dress"], windows=2)
for word, score, boxes in zip(found.words, found.scores, found.boxes(), strict=True):
    print(f"{word:8} {score:.2f}", boxes or "not in the picture")

# %% [markdown]
# The scale is the same for every image and word, so a word that is absent stays dark.

# %%
found.overlay(0, photo)

# %%
found.overlay(1, photo)

# %% [markdown]
# A map has the image's own pixels, whatever the model crops or pads.

# %%
print(found.maps.shape, found.maps.dtype, found.maps.max(axis=(1, 2)).round(2))

# %% [markdown]
# ## From the photo to products
#
# Boxes of garments become crops, and each crop a search.

# %%
from fashionclip import Index

index = Index.open("sample/shop.lance", model=model)
for garment, hits in index.search_garments(photo, ["handbag", "boots"], k=3):
    print(garment.word, garment.box)
    print(hits)
