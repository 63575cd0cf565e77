"""The OpenAPI description: complete, with examples that work; requests generated from it."""

from contextlib import contextmanager, suppress

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from starlette.testclient import TestClient

from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from small_shop import index_shop, write_catalog

EXAMPLES = 25  # of each operation
LIMITS = Settings(host="0.0.0.0", rate_per_minute=0, max_batch=4, k=150, text_chars=1_500)


@pytest.fixture(scope="module")
def store(tiny_checkpoint, tmp_path_factory):
    table = write_catalog(tmp_path_factory.mktemp("catalog"))
    index_shop(table, tiny_checkpoint, table.parent / "shop.lance")
    return table.parent / "shop.lance"


@contextmanager
def opened(store):
    """The service over an index."""
    metrics = Metrics()
    shop = SearchService(store, LIMITS, metrics)
    yield create_app(shop, LIMITS, metrics)
    shop.close()


@pytest.fixture(scope="module")
def client(store):
    with opened(store) as app:
        yield TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def described(client):
    return client.get("/openapi.json").json()


def operations(described):
    return [
        (method, path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_path_has_a_version_but_what_monitoring_asks_for(described):
    assert set(described["paths"]) == {
        "/v1/search", "/v1/classify", "/v1/embeddings", "/v1/models", "/v1/models/{model}",
        "/v1/products", "/v1/products/bulk", "/v1/products/{product_id}",
        "/v1/products/{product_id}/similar",
        "/v1/garments", "/v1/localize/{product_id}", "/v1/maps/{product_id}",
        "/v1/images/{product_id}", "/health", "/ready", "/metrics", "/v1/admin/switch",
    }  # fmt: skip


def test_operations_have_readable_names_and_known_topics(described):
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(set(names)) == len(names)
    assert {"search", "searchByUrl", "similarProducts", "getProduct", "listModels"} <= set(names)
    assert all(name.isidentifier() for name in names)
    topics = {tag["name"]: tag["description"] for tag in described["tags"]}
    assert all(topics[operation["tags"][0]] for _, _, operation in operations(described))


def test_keys_are_described_with_the_scope_they_need(described):
    def needed(method, path):
        return described["paths"][path][method]["security"]

    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert needed("get", "/health") == []
    assert {"bearer": ["read"]} in needed("post", "/v1/search")
    assert {"cookie": ["read"]} in needed("post", "/v1/search")
    assert needed("post", "/v1/admin/switch") == [{"bearer": ["admin"]}, {"header": ["admin"]}]
    assert needed("put", "/v1/products") == [{"bearer": ["write"]}, {"header": ["write"]}, {}]


def test_limits_are_those_of_the_service(described):
    schemas = described["components"]["schemas"]
    body = schemas["SearchRequest"]["properties"]
    assert (body["k"]["maximum"], body["offset"]["maximum"]) == (150, 10_000)
    assert body["text"]["anyOf"][0]["maxLength"] == 1_500
    parameters = {
        one["name"]: one["schema"] for one in described["paths"]["/v1/search"]["get"]["parameters"]
    }
    assert parameters["k"]["maximum"] == 150
    assert parameters["q"]["anyOf"][0]["maxLength"] == 1_500
    assert schemas["PutRequest"]["properties"]["products"]["maxItems"] == 64
    assert "20 MB" in described["info"]["description"]


def test_every_request_and_answer_has_an_example(described):
    def examples(schema):
        name = schema.get("$ref", "").removeprefix("#/components/schemas/")
        return described["components"]["schemas"][name]["examples"] if name else True

    for _, path, operation in operations(described):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            is_json = kind == "application/json"
            assert examples(content["schema"]) if is_json else content["example"], path
        for answer in operation["responses"].values():
            for kind, content in answer.get("content", {}).items():
                if kind == "application/json" and "anyOf" not in content["schema"]:
                    assert examples(content["schema"]), path


def test_examples_of_requests_work_and_those_of_answers_fit_their_schema(described, client):
    for method, path, operation in operations(described):
        for answer in operation["responses"].values():
            content = answer.get("content", {}).get("application/json", {})
            schema = {**content.get("schema", {}), "components": described["components"]}
            for example in _resolved(described, schema).get("examples", ()):
                jsonschema_rs.validate(schema, example)
        bodies = operation.get("requestBody", {}).get("content", {})
        for kind in bodies.keys() - {"application/json"}:
            given = {"content": bodies[kind]["example"], "headers": {"content-type": kind}}
            assert client.request(method, path, **given).status_code == 200, path
        if "application/json" not in bodies:
            continue
        body = bodies["application/json"]["schema"]
        for example in _resolved(described, body)["examples"]:
            # a filter's columns are another shop's, and a switch needs a key
            if "where" not in example and "/admin/" not in path:
                answer = client.request(method, path.format(product_id="P00"), json=example)
                assert answer.status_code == 200, (path, example, answer.text)
    client.delete("/v1/products?id=A-17")


def _resolved(described, schema):
    name = schema.get("$ref", "").removeprefix("#/components/schemas/")
    return described["components"]["schemas"][name] if name else schema


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # schemathesis's strategies
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_any_request_is_answered_as_described(store, mode):
    import schemathesis

    @schemathesis.serializer("application/x-ndjson")
    def as_lines(_, value):
        return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")

    with opened(store) as app:  # each run of requests ends the service
        description = schemathesis.openapi.from_asgi("/openapi.json", app)
        for operation in [found.ok() for found in description.get_all_operations()]:
            _try_requests(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))


def _try_requests(strategy):
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def answer(case):
        case.call_and_validate(checks=checks)

    with suppress(Unsatisfiable):  # nothing of it can be wrong
        answer()
