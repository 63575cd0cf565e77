"""A client of the service, for programs: ``Client("http://127.0.0.1:8000").search("red dress")``.

It holds connections open, comes back when the service says that it is busy, and speaks of what
went wrong in the service's own words. Of the rest it needs only the things that travel.
"""

from fashionclip.client.answers import (
    Hits,
    Label,
    NewProduct,
    Picture,
    Refusal,
    State,
    Stored,
)
from fashionclip.client.client import Client

__all__ = ["Client", "Hits", "Label", "NewProduct", "Picture", "Refusal", "State", "Stored"]
