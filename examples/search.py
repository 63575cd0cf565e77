# %% [markdown]
# # Search in ten lines
#
# The examples use the sample catalogue: `fashionclip demo --into sample` makes it, 240 products
# with drawn images. Everything here works offline, with the built-in model.

# %%
from fashionclip import Catalog, FashionCLIP, Index, index_catalog

model = FashionCLIP()
report = index_catalog(Catalog.open("sample/catalog.csv"), model, "search.lance")
print(f"{report.count} products, {report.rejected} rejected")

# %% [markdown]
# An index is a store of vectors together with the model that made them. Hits are a list; a
# notebook shows them with their images.

# %%
index = Index.open("search.lance", model=model)
index.search("striped trousers", k=4)

# %% [markdown]
# A filter is checked against the catalogue's columns, and is rejected as a whole if any part of
# it is not understood. `avoid` names what hits should not show.

# %%
index.search("dress", where="price < 150", avoid="floral", k=4)

# %% [markdown]
# A product or an image can be the query too, with words or without.

# %%
first = index.search("sneakers", k=1)[0]
print(first.product_id, first.columns["title"])
index.search(similar_to=first.product_id, k=4)

# %% [markdown]
# `explain` says why a hit is there: the words that matched, and how its score compares with the
# scores of all products.

# %%
hit = index.search("red handbag", k=1, explain=True)[0]
print(hit.columns["title"])
print(hit.explanation)

# %% [markdown]
# The vectors themselves are NumPy arrays of unit length, so cosines are one product away.

# %%
texts = model.encode_text(["a red dress", "blue jeans"])
images = model.encode_images(["sample/images/S0001.jpg", "sample/images/S0002.jpg"])
print(images.shape, images.dtype)
print(model.similarity(texts, images).round(2))
