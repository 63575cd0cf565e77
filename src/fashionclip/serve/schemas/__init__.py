"""The schemas of the API: what OpenAPI describes, and what requests are checked by."""
