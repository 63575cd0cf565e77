"""The web page: search in a browser over the same service as the API, rendered on the server."""

from fashionclip.serve.page.rendering import Renderer
from fashionclip.serve.page.routes import create_router

__all__ = ["Renderer", "create_router"]
