"""The web page: a search in a browser over the same index as the API, drawn on the server.

``create_router`` has its addresses; ``Drawing`` also draws what the service's limits refuse.
"""

from fashionclip.serve.page.drawing import Drawing
from fashionclip.serve.page.routes import create_router

__all__ = ["Drawing", "create_router"]
