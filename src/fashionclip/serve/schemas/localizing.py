"""The schemas of answers about the inside of images: garments, places of words."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from fashionclip.serve.schemas.answers import HitOut

MAX_LOCALIZED = 16
"""Words of one request for a product's picture."""

Words = Annotated[
    list[str],
    Query(
        min_length=1,
        max_length=MAX_LOCALIZED,
        description="What to look for on the picture; several times for several words.",
        examples=[["sleeve", "collar"]],
    ),
]
Word = Annotated[str, Query(min_length=1, description="What to look for.", examples=["sleeve"])]


class BoxOut(BaseModel):
    """A rectangle in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


class ScoredBoxOut(BoxOut):
    """A rectangle, and how strong a word is in it."""

    score: float = Field(description="In 0…1.")


_BOX: dict[str, Any] = {"left": 89, "top": 307, "right": 212, "bottom": 512}


class GarmentOut(BaseModel):
    """A garment, where it is, and the products that look like it."""

    garment: str
    score: float = Field(description="How sure the model is, in 0…1.")
    box: BoxOut
    hits: list[HitOut] = Field(description="Best first.")
    has_more: bool = Field(description="Whether there are more hits than k.")
    hint: str | SkipJsonSchema[None] = Field(
        None, description="How to mend a filter that no product passes, if that can be told."
    )


class GarmentsOut(BaseModel):
    """The garments of a photograph, strongest first; none where nothing stands out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "width": 346,
                    "height": 512,
                    "garments": [
                        {
                            "garment": "pants",
                            "score": 0.287,
                            "box": _BOX,
                            "hits": [{"id": "15970", "score": 0.64, "title": "Black jeans"}],
                            "has_more": True,
                        }
                    ],
                }
            ]
        }
    )

    width: int = Field(description="Of the photograph in pixels, upright; boxes are in these.")
    height: int
    garments: list[GarmentOut]


class PlacesOut(BaseModel):
    """Where a word is on a picture."""

    word: str
    score: float = Field(description="How strong it is at its strongest place, in 0…1.")
    is_found: bool = Field(description="False where the word is not in the picture.")
    boxes: list[ScoredBoxOut] = Field(description="Strongest first.")


class LocalizedOut(BaseModel):
    """Where words are on a product's picture."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "15970",
                    "width": 640,
                    "height": 853,
                    "words": [
                        {
                            "word": "sleeve",
                            "score": 0.81,
                            "is_found": True,
                            "boxes": [{**_BOX, "score": 0.81}],
                        },
                        {"word": "buckle", "score": 0.04, "is_found": False, "boxes": []},
                    ],
                }
            ]
        }
    )

    id: str
    width: int = Field(description="Of the picture as /v1/images/ID?width=640 gives it.")
    height: int
    words: list[PlacesOut]
