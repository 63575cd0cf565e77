"""The schemas of the API's requests and answers, with examples; OpenAPI is made from them."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

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


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SearchRequest(_Request):
    """A text, an image, both, or products to resemble; without any, products are listed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"text": "blue denim jeans", "k": 5},
                {"text": "shirt", "avoid": ["stripes"], "where": "price < 50"},
                {"image": PIXEL, "text": "in red", "weight": 0.4},
            ]
        },
    )

    text: Text | None = None
    image: Base64Image | None = None
    image_url: ImageUrl | None = None
    similar_to: Ids = []
    avoid: list[str] = Field(
        [], max_length=20, description="Phrases for what hits should not show."
    )
    unlike: Ids = []
    where: Where | None = None
    weight: float = Field(0.5, ge=0, le=1, description="Weight of the text beside an image.")
    k: int = Field(10, ge=1)
    offset: int = Field(0, ge=0)
    hybrid: bool = Field(False, description="Also match the text against captions.")
    group: bool = Field(False, description="Only the best hit of each group of variants.")


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


class ImageReference(BaseModel):
    """An image URL in the form that OpenAI's clients send."""

    url: ImageUrl


class EmbeddingInput(_Request):
    """One text or one image."""

    text: Text | None = None
    image: Base64Image | None = None
    image_url: ImageUrl | ImageReference | None = None


class EmbeddingsRequest(BaseModel):
    """OpenAI's format; other fields that its clients send are ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"input": ["red dress", "blue jeans"]},
                {"input": [{"text": "red dress"}, {"image": PIXEL}]},
            ]
        }
    )

    input: str | list[str | EmbeddingInput] = Field(
        description="Texts; or objects with text, image or image_url. data:image/… is an image."
    )
    model: str | None = Field(None, description="The model's name; any other is rejected.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="Must be the model's own, if given.")
    modality: Literal["text", "image"] = Field("text", description="Of inputs that are strings.")


class ProductIn(_Request):
    """A product to store."""

    id: str = Field(min_length=1, max_length=500, examples=["A-17"])
    image: Base64Image | None = None
    image_url: ImageUrl | None = None
    caption: str = Field("", description="If empty, it is built from the columns.")
    columns: dict[str, Scalar] = Field(
        {},
        description="By the catalogue's own column names, or by role: title, price, brand, …",
        examples=[{"title": "Red dress", "price": 39.9}],
    )


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


class HitOut(BaseModel):
    """A search result: id, score and the catalogue's columns."""

    model_config = ConfigDict(extra="allow")

    id: str
    score: float


class Hits(BaseModel):
    """Best first."""

    hits: list[HitOut]
    has_more: bool = Field(description="Whether there are more hits.")


class ProductOut(BaseModel):
    """A product: its id and the catalogue's columns."""

    model_config = ConfigDict(extra="allow")

    id: str


class LabelOut(BaseModel):
    """A label and its probability among the given ones."""

    label: str
    probability: float


class Labels(BaseModel):
    """Most probable first."""

    labels: list[LabelOut]


class Embedding(BaseModel):
    """One vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    """Vectors in the order of the inputs, of unit length."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: dict[str, int]


class Refused(BaseModel):
    """A product that was not stored, and why."""

    id: str
    reason: str


class PutResult(BaseModel):
    """The result of storing products."""

    stored: int
    rejected: list[Refused]


class Removed(BaseModel):
    """How many of the products were stored and have been deleted."""

    removed: int


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether the service is up to date; ``stale`` while the store cannot be read."""

    status: Literal["ready", "stale"]
    products: int
    model: str


class Problem(BaseModel):
    """What is wrong with a request, or with the service."""

    code: str
    message: str
    request_id: str


class ProblemOut(BaseModel):
    """The body of every answer that is not a 2xx."""

    error: Problem


class PutRefused(PutResult, ProblemOut):
    """No product could be stored."""


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers in a route's OpenAPI description."""
    return {status: {"model": ProblemOut} for status in statuses}
