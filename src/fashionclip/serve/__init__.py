"""The HTTP service: requests in, answers out, over an index and a model."""
