"""A Python client of the service: ``Client("http://127.0.0.1:8000").search("red dress")``.

It has a method per endpoint, keeps connections open, repeats a request that the service was too
busy for, and raises errors with the service's own messages.
"""

from fashionclip.client.answers import (
    AppliedChange,
    BulkResult,
    Deletion,
    Facet,
    Hits,
    ImageInput,
    Label,
    Mode,
    NewProduct,
    Patch,
    PutResult,
    Rejection,
    ServedModel,
    ServiceStatus,
)
from fashionclip.client.client import Client
from fashionclip.client.localizing import Box, FoundGarment, WordPlaces
from fashionclip.client.parts import MAX_ITEMS_PER_REQUEST

__all__ = [
    "MAX_ITEMS_PER_REQUEST",
    "AppliedChange",
    "Box",
    "BulkResult",
    "Client",
    "Deletion",
    "Facet",
    "FoundGarment",
    "Hits",
    "ImageInput",
    "Label",
    "Mode",
    "NewProduct",
    "Patch",
    "PutResult",
    "Rejection",
    "ServedModel",
    "ServiceStatus",
    "WordPlaces",
]
