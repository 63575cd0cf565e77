"""The schemas of the API's requests, with examples and the fields' descriptions."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fashionclip.garments import MAX_WORDS
from fashionclip.searching import BUT_STRENGTH, MAX_BUT_STRENGTH, MAX_CHANGES, Mode
from fashionclip.serve.validation import own_error, unknown

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
)
"""A PNG of one pixel, for examples."""

Text = Annotated[str, Field(examples=["blue denim jeans"])]
ImageUrl = Annotated[
    str,
    Field(
        description="http(s), where the service allows it, or data:image/…;base64,…",
        examples=["https://shop.example/images/1.jpg"],
    ),
]
Base64Image = Annotated[
    str, Field(description="An encoded image (JPEG, PNG, WebP, GIF) in base64.", examples=[PIXEL])
]
Ids = Annotated[list[str], Field(max_length=50, examples=[["15970"]])]
Where = Annotated[
    str,
    Field(
        description="A filter: comparisons over the catalogue's columns, as in SQL.",
        examples=["price < 50 and gender = 'Women'"],
    ),
]
AddColumns = Annotated[
    bool, Query(description="Add columns that the catalogue does not have; else an error.")
]
Scalar = str | int | float | bool | None
Id = Annotated[str, Field(min_length=1, max_length=500, examples=["A-17"])]
Columns = Annotated[
    dict[str, Scalar],
    Field(
        description="By the catalogue's own column names, or by role: title, price, brand, …",
        examples=[{"title": "Red dress", "price": 39.9}],
    ),
]
NewColumns = Annotated[
    dict[str, Scalar],
    Field(
        description="New values by column or role; null removes a value, others stay.",
        examples=[{"price": 29.9, "stock": 4}],
    ),
]
NewCaption = Annotated[
    str | None,
    Field(
        description="null keeps a caption that was given; one that was built from the columns is "
        "built anew."
    ),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:  # noqa: ANN401 - any JSON
        """Name the field that is meant by an unknown one.

        Raises:
            own_error: a field is unknown.
        """
        for name in data if isinstance(data, dict) else ():
            if name not in cls.model_fields:
                raise own_error(unknown("field", name, cls.model_fields))
        return data


class ListOptions(_Request):
    """What every list of hits can be asked for, in a body and in a query string."""

    where: Where | None = None
    sort: str | None = Field(
        None,
        description="A column or role to sort by, descending with - before it: price, -price. "
        "Hits below the relevance threshold stay behind the others.",
        examples=["-price"],
    )
    group: bool = Field(False, description="Only the best hit of each group of variants.")
    k: int = Field(10, ge=1, description="Hits of a page.")
    offset: int = Field(
        0, ge=0, description="Hits to leave out at the start; cursor is better for many pages."
    )
    cursor: str | None = Field(
        None, description="cursor of the page before: the page goes on after its last hit."
    )
    fields: list[str] | None = Field(
        None,
        description="Columns or roles that hits have beside id and score; all if it is not given.",
        examples=[["title", "price"]],
    )
    facets: list[str] | None = Field(
        None,
        description="Columns or roles whose values are counted over all that fits; * is every one.",
        examples=[["brand", "price"]],
    )
    total: bool = Field(False, description="Count the products that fit.")
    explain: bool = Field(False, description="Say why each hit is there.")
    diversity: float = Field(
        0.0, ge=0, le=1, description="How much hits that look like earlier ones are put back."
    )


_MODE = Field(
    None,
    description="What the text is compared with: the products' words (words), their vectors "
    "(vectors) or both (hybrid). Without it both, and vectors alone where there are images too.",
)
_AVOID: list[str] = Field([], max_length=20, description="Phrases for what hits should not show.")


class _Changes(_Request):
    but: list[str] = Field(
        [],
        max_length=MAX_CHANGES,
        description="How hits should differ from what the search starts from: comparatives, or "
        "from and to. Hits keep its category, unless where names one.",
        examples=[["darker", "long sleeves / short sleeves"]],
    )
    but_strength: float = Field(
        BUT_STRENGTH, gt=0, le=MAX_BUT_STRENGTH, description="How far these changes go."
    )


class _Question(_Request):
    text: Text | None = None
    image: Base64Image | None = None
    image_url: ImageUrl | None = None
    similar_to: Ids = []
    avoid: list[str] = _AVOID
    unlike: Ids = []
    weight: float = Field(0.5, ge=0, le=1, description="Weight of the text beside an image.")
    mode: Mode | None = _MODE
    hybrid: bool | None = Field(
        None,
        description="Write mode instead: hybrid for true, vectors for false.",
        json_schema_extra={"deprecated": True},  # pydantic's own warns wherever it is read
    )

    @model_validator(mode="after")
    def _check_mode(self) -> "_Question":
        """Check that the mode is given once.

        Raises:
            own_error: it is given twice.
        """
        if self.mode is not None and self.hybrid is not None:
            message = "mode and hybrid are both given; leave out hybrid, which is the older one"
            raise own_error(message)
        return self


class SearchRequest(ListOptions, _Changes, _Question):
    """A text, an image, both, or products to resemble; without any, products are listed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"text": "blue denim jeans", "k": 5},
                {"text": "shirt", "avoid": ["stripes"], "where": "price < 50", "sort": "price"},
                {"image": PIXEL, "text": "in red", "weight": 0.4},
                {"text": "dress", "but": ["darker", "short sleeves / long sleeves"], "k": 5},
                {"text": "dress", "facets": ["*"], "total": True, "explain": True},
            ]
        },
    )


class ListParameters(ListOptions):
    """The same in a query string, where names may be separated by commas.

    A parameter without a value counts as not given, since a page's form sends all of its fields.
    """

    @model_validator(mode="before")
    @classmethod
    def _drop_blank(cls, data: Any) -> Any:  # noqa: ANN401 - as it comes
        return {name: value for name, value in data.items() if value not in ("", [""])}

    @model_validator(mode="after")
    def _split(self) -> "ListParameters":
        self.fields, self.facets = _names(self.fields), _names(self.facets)
        return self


class SimilarParameters(_Changes, ListParameters):
    """The query string of a search for products like one."""


class _TextParameters(_Request):
    q: Text | None = None
    mode: Mode | None = _MODE
    avoid: list[str] = _AVOID


class SearchParameters(ListParameters, _Changes, _TextParameters):
    """The query string of a search by text; without a text, products are listed."""


def _names(given: list[str] | None) -> list[str] | None:
    if given is None:
        return None
    parts = [part.strip() for one in given for part in one.split(",")]
    return [part for part in parts if part]


class ClassifyRequest(_Request):
    """An image and the candidate labels."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"image": PIXEL, "labels": ["jeans", "dress", "shoe"]}]},
    )

    image: Base64Image | None = None
    image_url: ImageUrl | None = None
    labels: list[str] = Field(min_length=1)
    templates: str | list[str] | None = Field(
        "product",
        description="A named set (bare, product, ensemble, sentences), or prompts with {}.",
    )


class GarmentsRequest(_Request):
    """A photograph, and what its garments are searched with."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"image": PIXEL, "k": 5},
                {"image": PIXEL, "garments": ["dress", "shoes"], "where": "price < 50"},
            ]
        },
    )

    image: Base64Image | None = None
    image_url: ImageUrl | None = None
    garments: list[str] | None = Field(
        None,
        min_length=1,
        max_length=MAX_WORDS,
        description="Garments to look for, such as the shop's own categories; usual ones if not "
        "given.",
    )
    where: Where | None = None
    k: int = Field(10, ge=1, description="Hits of each garment.")
    group: bool = Field(False, description="Only the best hit of each group of variants.")
    fields: list[str] | None = Field(
        None, description="Columns or roles that hits have beside id and score; all if not given."
    )


class ImageReference(BaseModel):
    """An image URL in the form that OpenAI's clients send."""

    url: ImageUrl


class EmbeddingInput(_Request):
    """One text or one image."""

    text: Text | None = None
    image: Base64Image | None = None
    image_url: ImageUrl | ImageReference | None = None


class EmbeddingsRequest(_Request):
    """OpenAI's format."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"input": ["red dress", "blue jeans"]},
                {"input": [{"text": "red dress"}, {"image": PIXEL}]},
            ]
        },
    )

    input: str | list[str | EmbeddingInput] = Field(
        description="Texts; or objects with text, image or image_url. data:image/… is an image."
    )
    model: str | None = Field(None, description="The model's name; any other is rejected.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="Must be the model's own, if given.")
    modality: Literal["text", "image"] = Field("text", description="Of inputs that are strings.")
    user: str | None = Field(None, description="Sent by OpenAI's clients; it has no effect.")


class ProductIn(_Request):
    """A product to store."""

    id: Id
    image: Base64Image | None = None
    image_url: ImageUrl | None = None
    caption: str = Field("", description="If empty, it is built from the columns.")
    columns: Columns = {}


class PutRequest(_Request):
    """Products to store; those of the same ids are replaced."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"products": [{"id": "A-17", "image": PIXEL, "columns": {"title": "Red dress"}}]}
            ]
        },
    )

    products: list[ProductIn] = Field(min_length=1)


class PatchRequest(_Request):
    """New values for some columns of a product; its image and vector stay."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"columns": {"price": 29.9}}]}
    )

    columns: NewColumns = {}
    caption: NewCaption = None


class PatchIn(PatchRequest):
    """New values for some columns of a product."""

    id: Id


class PatchesRequest(_Request):
    """Changes of products; of several to one product each counts, in their order."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"products": [{"id": "A-17", "columns": {"price": 29.9}}]}]
        },
    )

    products: list[PatchIn] = Field(min_length=1)


class BulkLine(_Request):
    """A line of a bulk request: with an image a product to store, without one a change of it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"id": "A-17", "image": PIXEL, "columns": {"title": "Red dress", "price": 39.9}},
                {"id": "A-17", "columns": {"price": 29.9}},
                {"id": "A-17", "delete": True},
            ]
        },
    )

    id: Id
    image: Base64Image | None = None
    image_url: ImageUrl | None = None
    caption: NewCaption = None
    columns: NewColumns = {}
    delete: bool = Field(False, description="Delete the product.")

    @model_validator(mode="after")
    def _check_alone(self) -> "BulkLine":
        """Check that a deletion is nothing else.

        Raises:
            own_error: it has an image, a caption or columns too.
        """
        if self.delete and (self.image or self.image_url or self.caption or self.columns):
            message = "delete stands alone; leave out the other fields, or delete"
            raise own_error(message)
        return self


class SwitchRequest(_Request):
    """The store that is to answer."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"store": "shop-v2.lance"}]}
    )

    store: str = Field(
        min_length=1, max_length=2_000, description="The name of a store beside the alias."
    )
