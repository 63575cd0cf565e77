"""Images: locations to encoded bytes (``fetch``, ``web``), bytes to pixels (``decode``)."""
