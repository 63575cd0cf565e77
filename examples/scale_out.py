# %% [markdown]
# # Scale out
#
# The same calls at three sizes: this process, workers on Ray, and vectors that take less room.
# The examples use the sample catalogue: `fashionclip demo --into sample` makes it. Ray is an
# extra: `pip install 'fashionclip[ray]'`.

# %%
from fashionclip import Catalog, FashionCLIP, Index, index_catalog
from fashionclip.ray_encoding import open_ray_encoder

model = FashionCLIP()
catalog = Catalog.open("sample/catalog.csv")
one = index_catalog(catalog, model, "one.lance")
print(f"this process: {one.embedded} encoded")

# %% [markdown]
# `"local"` starts Ray on this machine for these lines alone; a cluster's address takes its place.
# Workers get locations, fetch and decode the images themselves, and send vectors back.

# %%
with open_ray_encoder(model, "local", workers=2) as encoder:
    two = index_catalog(catalog, model, "two.lance", encoder=encoder)
print(f"two workers: {two.embedded} encoded")

# %% [markdown]
# Both indexes answer alike. What is there already is never encoded again, whoever encoded it.

# %%
a, b = (
    Index.open(name, model=model).search("red dress", k=5) for name in ("one.lance", "two.lance")
)
print([hit.product_id for hit in a] == [hit.product_id for hit in b])
print(index_catalog(catalog, model, "two.lance").embedded, "encoded again")

# %% [markdown]
# Smaller vectors are a property of the store. `binary` keeps a bit per number and compares the
# best candidates again by halves.

# %%
from pathlib import Path

for form in ("float", "half", "int8", "binary"):
    index_catalog(catalog, model, f"{form}.lance", vectors=form)
    index = Index.open(f"{form}.lance", model=model)
    size = sum(file.stat().st_size for file in Path(f"{form}.lance").rglob("*") if file.is_file())
    ids = [hit.product_id for hit in index.search("red dress", k=5, mode="vectors")]
    print(f"{form:6}  {size / 1e6:4.1f} MB  {ids}")

# %% [markdown]
# The address of a store is all that changes for a bucket or for PostgreSQL:
# `index_catalog(catalog, model, "s3://shop/index")`, `"postgresql://db/shop"`. Replicas of the
# service follow either; [Scale](../scale.md) walks through it, with the size at which each step
# pays.
