"""The HTTP service: a search page and an API over a store and its model."""
