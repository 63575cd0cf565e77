"""A Python client of the service: ``Client("http://127.0.0.1:8000").search("red dress")``.

It keeps connections open, repeats a request that the service was too busy for, and raises errors
with the service's own messages.
"""

from fashionclip.client.client import Client
from fashionclip.client.types import (
    Hits,
    ImageInput,
    Label,
    NewProduct,
    PutResult,
    Rejection,
    ServiceStatus,
)

__all__ = [
    "Client",
    "Hits",
    "ImageInput",
    "Label",
    "NewProduct",
    "PutResult",
    "Rejection",
    "ServiceStatus",
]
