"""The real service on a real port, in a thread of the tests."""

import threading

import uvicorn

from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware.connections import Connections
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from fashionclip.serve.workers import listen


class Running:
    """The service in a thread; its socket stays open when it stops."""

    def __init__(self, store, **settings):
        """Open the socket."""
        self.store = store
        self.settings = Settings(**{"rate_per_minute": 0, "port": 0, **settings})
        self.socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __enter__(self):
        """Open the index and serve it."""
        metrics = Metrics()
        service = SearchService(self.store, self.settings, metrics)
        self.connections = Connections(head_seconds=15.0)
        app = create_app(service, self.settings, metrics, connections=self.connections)
        app = self.connections.track(app)
        config = uvicorn.Config(app, http=self.connections, log_config=None, lifespan="on")
        self.server = uvicorn.Server(config)
        run = self.server.run
        self.thread = threading.Thread(target=run, kwargs={"sockets": [self.socket.dup()]})
        self.thread.start()
        return self

    def __exit__(self, *_):
        """Answer pending requests and stop."""
        self.server.should_exit = True
        self.thread.join()
