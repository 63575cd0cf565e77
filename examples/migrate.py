# %% [markdown]
# # Migrate from the fashion-clip package
#
# Code that was written for `fashion-clip` works after one change, the import. The examples use
# the sample catalogue (`fashionclip demo --into sample` makes it) and the built-in model, which
# `FashionCLIP(None)` opens; `FashionCLIP("fashion-clip")` opens the published one from the hub.

# %%
from fashionclip.compat import FashionCLIP, FCLIPDataset

fclip = FashionCLIP(None)
images = ["sample/images/S0001.jpg", "sample/images/S0002.jpg"]
image_embeddings = fclip.encode_images(images, batch_size=32)
text_embeddings = fclip.encode_text(["a red dress", "blue jeans"], batch_size=32)
print(image_embeddings.shape, text_embeddings.shape)

# %%
fclip.zero_shot_classification(images, ["dress", "trousers", "boots"])

# %% [markdown]
# A data set with retrieval, as there. One broken image is a row of NaN and a warning, not the
# end.

# %%
import csv

with open("sample/catalog.csv", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
catalog = [
    {"id": row["id"], "image": row["image"].removeprefix("images/"), "caption": row["title"]}
    for row in rows
]
dataset = FCLIPDataset("mine", "sample/images", "local", catalog=catalog)
fclip = FashionCLIP(None, dataset)
found = fclip.retrieval(["striped trousers"], top_k=3)
fclip.dataset.display_products(dataset.ids[found[0]], fields=("id", "caption"))

# %% [markdown]
# ## From there to an index
#
# The data set lives in memory and is encoded at every start. An index is a file that is brought
# up to date, with filters, words and pages.

# %%
from fashionclip import Catalog, Index, index_catalog

index_catalog(Catalog.open("sample/catalog.csv"), fclip.model, "migrated.lance")
print(Index.open("migrated.lance", model=fclip.model).search("striped trousers", k=3))
