# %% [markdown]
# # Like this, but …
#
# The examples use the sample catalogue: `fashionclip demo --into sample` makes it, with an index,
# `sample/shop.lance`.

# %%
from fashionclip import Index

index = Index.open("sample/shop.lance")
index.search("blue dress", k=4)

# %% [markdown]
# `but` changes the search in one direction and keeps the rest. A direction is a comparative, or two
# texts with a slash between: from, and to.

# %%
start = index.search("blue dress", k=1)[0].product_id
index.search(similar_to=start, but="darker", k=4)

# %%
index.search(similar_to=start, but="plain / floral", k=4)

# %% [markdown]
# Several changes work at once, and `but_strength` says how far they go.

# %%
index.search("trousers", but=["plain / striped", "lighter"], but_strength=2.0, k=4)

# %% [markdown]
# A change that is not understood is refused, with what is known.

# %%
try:
    index.search(similar_to=start, but="bananier")
except ValueError as error:
    print(error)
