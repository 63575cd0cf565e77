"""The schemas of the API's answers, with examples. Answers are not validated by them: too slow."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema


class ExplanationOut(BaseModel):
    """Why a product is a hit."""

    matched: list[str] = Field(description="Words of the query that the product's words match.")
    percentile: float | None = Field(
        description="Share of the catalogue that fits less well by its vectors, in percent."
    )


class HitOut(BaseModel):
    """A search result: id, score and the catalogue's columns."""

    model_config = ConfigDict(extra="allow")

    id: str
    score: float
    n_variants: int = Field(
        1, description="Products of its group that were found; only where hits are grouped."
    )
    explanation: ExplanationOut | SkipJsonSchema[None] = Field(
        None, description="Only if explain is true."
    )


class FacetValue(BaseModel):
    """A value of a facet, and how many of the products that fit have it."""

    value: str | int | float | bool
    count: int


class FacetOut(BaseModel):
    """A column to filter by."""

    kind: Literal["text", "boolean", "number", "list"]
    values: list[FacetValue] = Field(
        description="The most frequent first; empty for numbers, which have a range."
    )
    low: float | None = Field(None, description="The lowest number; only of kind number.")
    high: float | None = Field(None, description="The highest number; only of kind number.")


class ChangeOut(BaseModel):
    """A change as it was made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "darker", "from": "white", "to": "black", "strength": 1.4}]
        }
    )

    text: str = Field(description="As it was asked for.")
    before: str = Field(alias="from", description="The text that it leads away from.")
    after: str = Field(alias="to", description="The text that it leads to.")
    strength: float = Field(description="How far.")


class KeptCategoryOut(BaseModel):
    """A category that hits are kept to."""

    column: str
    values: list[str | int | float]


class Hits(BaseModel):
    """Hits that fit, best first or sorted, and after them weaker ones."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "hits": [
                        {
                            "id": "15970",
                            "score": 0.318,
                            "title": "Blue denim jeans",
                            "price": 49.9,
                            "explanation": {"matched": ["blue", "jeans"], "percentile": 99.2},
                        }
                    ],
                    "n_relevant": 1,
                    "total": 12,
                    "is_total_exact": True,
                    "has_more": True,
                    "cursor": "eyJzIjowLjMxOH0",
                    "facets": {
                        "brand": {
                            "kind": "text",
                            "values": [{"value": "Levi's", "count": 7}],
                        },
                        "price": {"kind": "number", "values": [], "low": 19.9, "high": 89.0},
                    },
                }
            ]
        }
    )

    hits: list[HitOut]
    n_relevant: int = Field(
        description="How many of the hits, from the first on, are above the relevance threshold; "
        "0 says that nothing here fits."
    )
    total: int | None = Field(
        description="How many products (or groups) fit; null if it was not asked for."
    )
    is_total_exact: bool = Field(description="False where there are at least total.")
    has_more: bool = Field(description="Whether there are more hits.")
    cursor: str | None = Field(description="For the next page; null at the end.")
    changes: list[ChangeOut] | SkipJsonSchema[None] = Field(
        None,
        description="How hits differ from the start of the search. Only where but asked for it.",
    )
    kept_category: KeptCategoryOut | None = Field(
        None,
        description="The category that hits are kept to because of the changes; null if none is. "
        "Only with changes.",
    )
    hint: str | SkipJsonSchema[None] = Field(
        None,
        description="How to mend a filter that no product passes, for people: a stored value that "
        "is spelled like one that it asks for. Only if there is one.",
    )
    facets: dict[str, FacetOut] | SkipJsonSchema[None] = Field(
        None, description="By column; only if facets were asked for."
    )


class ProductOut(BaseModel):
    """A product: its id and the catalogue's columns."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"id": "15970", "title": "Blue denim jeans"}]},
    )

    id: str


class LabelOut(BaseModel):
    """A label and its probability among the given ones."""

    label: str
    probability: float


class Labels(BaseModel):
    """Most probable first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"labels": [{"label": "jeans", "probability": 0.981}]}]}
    )

    labels: list[LabelOut]


class Embedding(BaseModel):
    """One vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    """Vectors in the order of the inputs, of unit length."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "list",
                    "data": [{"object": "embedding", "index": 0, "embedding": [0.6, -0.8]}],
                    "model": "builtin",
                    "usage": {"prompt_tokens": 0, "total_tokens": 0},
                }
            ]
        }
    )

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: dict[str, int]


_MODEL: JsonDict = {
    "id": "builtin",
    "object": "model",
    "created": 0,
    "owned_by": "fashionclip",
    "dimensions": 256,
}


class ModelOut(BaseModel):
    """The model that made the index, as OpenAI's API describes models."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MODEL]})

    id: str
    object: Literal["model"]
    created: int = Field(description="Not known: 0.")
    owned_by: str
    dimensions: int = Field(description="Numbers of a vector.")


class Models(BaseModel):
    """The models of the service: the one that made its index."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"object": "list", "data": [_MODEL]}]}
    )

    object: Literal["list"]
    data: list[ModelOut]


class Refused(BaseModel):
    """A product that was not stored, and why."""

    id: str
    reason: str


class PutResult(BaseModel):
    """The result of storing products."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"stored": 1, "rejected": []}]})

    stored: int
    rejected: list[Refused]


class PatchResult(BaseModel):
    """The result of changing products."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "patched": 1,
                    "rejected": [{"id": "A-71", "reason": "there is no product 'A-71' here"}],
                }
            ]
        }
    )

    patched: int
    rejected: list[Refused]


class Removed(BaseModel):
    """How many of the products were stored and have been deleted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"removed": 1}]})

    removed: int


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether requests may be sent here; ``stale`` while the store cannot be read.

    An answer of 503 has the same fields, with ``loading``, ``stopping``, ``outdated`` or
    ``other_model``.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ready",
                    "products": 100000,
                    "model": "builtin",
                    "read_only": False,
                    "switch_failed": False,
                }
            ]
        }
    )

    status: Literal["ready", "stale"]
    products: int
    model: str
    read_only: bool = Field(description="Whether requests that write are refused.")
    switch_failed: bool = Field(
        description="Whether the alias names a store that cannot be opened; the one before answers."
    )


class Switched(BaseModel):
    """Which store answered before, and which one answers now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "old": "shop-v1.lance",
                    "new": "shop-v2.lance",
                    "products": 100000,
                    "model": "builtin",
                }
            ]
        }
    )

    old: str
    new: str
    products: int = Field(description="Products of the new store.")
    model: str = Field(description="The model of the new store.")


class Problem(BaseModel):
    """What is wrong with a request, or with the service."""

    code: str
    message: str
    request_id: str


class ProblemOut(BaseModel):
    """The body of every answer that is not a 2xx."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "invalid",
                        "message": "unknown field 'txet'; did you mean 'text'?",
                        "request_id": "5f0c2b1e9a7d4c3f8e6b5a4d3c2b1a09",
                    }
                }
            ]
        }
    )

    error: Problem


class PutRefused(PutResult, ProblemOut):
    """No product could be stored."""


class PatchRefused(PatchResult, ProblemOut):
    """No product could be changed."""


class NotExpected(ProblemOut):
    """Another number of products passes the filter; nothing was deleted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "not_expected",
                        "message": "12 products pass this filter; send expect=12 to delete them",
                        "request_id": "5f0c2b1e9a7d4c3f8e6b5a4d3c2b1a09",
                    },
                    "count": 12,
                }
            ]
        }
    )

    count: int | SkipJsonSchema[None] = Field(None, description="The number of products.")


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers in a route's OpenAPI description."""
    return {status: {"model": ProblemOut} for status in statuses}
