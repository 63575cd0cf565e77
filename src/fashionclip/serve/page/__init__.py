"""The web page: a search in a browser over the same index as the API, drawn on the server.

``create_router`` is all that the service needs of it.
"""

from fashionclip.serve.page.routes import create_router

__all__ = ["create_router"]
