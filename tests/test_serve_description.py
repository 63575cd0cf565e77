"""Requests generated from the OpenAPI description: answers are as described, without 500s."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from small_shop import index_shop, write_catalog

pytestmark = pytest.mark.slow
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 25  # of each operation


@pytest.fixture(scope="module")
def description(tiny_checkpoint, tmp_path_factory):
    """The service and its OpenAPI description."""
    table = write_catalog(tmp_path_factory.mktemp("catalog"))
    index_shop(table, tiny_checkpoint, table.parent / "shop.lance")
    limits = Settings(host="0.0.0.0", rate_per_minute=0, max_batch=4)
    metrics = Metrics()
    shop = SearchService(table.parent / "shop.lance", limits, metrics)
    yield schemathesis.openapi.from_asgi("/openapi.json", create_app(shop, limits, metrics))
    shop.close()


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # schemathesis's strategies
def test_any_request_is_answered_as_described(description):
    operations = [found.ok() for found in description.get_all_operations()]
    assert len(operations) == 11
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy())
        def answer(case):
            case.call_and_validate(checks=CHECKS)

        answer()
