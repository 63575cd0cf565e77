"""Images: formats that are read, locations to bytes (``fetch``, ``web``), bytes to pixels."""
