# %% [markdown]
# # Your own catalogue
#
# A shop's export has its own column names, broken rows and images that are missing. This example
# makes such an export from the sample catalogue (`fashionclip demo --into sample` makes that),
# reads it, checks it, and indexes it.

# %%
import csv

with open("sample/catalog.csv", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))[:40]
with open("export.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file, delimiter=";")
    writer.writerow(["Artikelnummer", "Bezeichnung", "Preis", "Bild"])
    for row in rows:
        price = row["price"].replace(".", ",") + " €"
        writer.writerow([row["id"], row["title"], price, row["image"]])
    writer.writerow(["S9999", "A product without an image", "9,95 €", "images/none.jpg"])
    writer.writerow(["S0001", "An id that is there already", "9,95 €", "images/S0001.jpg"])

# %% [markdown]
# `Catalog.open` finds the delimiter, the encoding, which column is what, and how money is
# written. Nothing is guessed in silence: the roles and kinds are there to look at.

# %%
from fashionclip import Catalog, FashionCLIP, Index, Product, index_catalog

catalog = Catalog.open("export.csv", images="sample")
roles = catalog.roles
print(roles.id, roles.title, roles.price, roles.image, sep=", ")

# %% [markdown]
# A catalogue is a stream of products and rejects. A row that cannot be used costs nothing but
# itself.

# %%
stream = list(catalog)
products = [row for row in stream if isinstance(row, Product)]
rejects = [row for row in stream if not isinstance(row, Product)]
print(len(products), "products; the first:", products[0].columns)
for reject in rejects:
    print("rejected:", reject.row, reject.reason)

# %% [markdown]
# The index needs the images too, so here the row without an image is rejected.

# %%
model = FashionCLIP()
report = index_catalog(catalog, model, "export.lance")
print(report.count, "products,", report.rejected, "rejected")

# %%
with open(report.rejects_path, encoding="utf-8") as file:
    print(file.read())

# %% [markdown]
# Prices are numbers now, whatever the export wrote.

# %%
print(Index.open("export.lance").search("trousers", where="Preis < 60", sort="Preis", k=3))

# %% [markdown]
# Run it again: only what changed is encoded.

# %%
again = index_catalog(catalog, model, "export.lance")
print(again.embedded, "encoded,", again.unchanged, "left alone")
