"""The real OpenAPI document against the real application: whatever fits it or not, no 5xx, and answers as documented.

Each operation gets a few generated calls, good and bad ones, within a bound of time.
"""

import time
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.hub.running import RunningHub

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 8  # per operation, mode and role
SECONDS = 60.0


def document(hub: RunningHub) -> dict[str, Any]:
    answer = hub.client().get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_every_refusal_is_documented(shared_hub: RunningHub) -> None:
    for path, operations in document(shared_hub)["paths"].items():
        for method, operation in operations.items():
            default = operation["responses"]["default"]
            assert list(default["content"]) == ["application/problem+json"], (method, path)
            assert "422" not in operation["responses"], (method, path)
            open_to_all = not path.startswith("/v1/") or path.startswith("/v1/agent/") or "facts" in operation["tags"]
            assert ("security" in operation) != open_to_all, (method, path)


@pytest.mark.parametrize("role", ["customer", "operator"])
def test_nothing_that_is_sent_breaks_the_hub(shared_hub: RunningHub, role: str) -> None:
    operator = shared_hub.operator
    if role == "operator":
        key = operator.headers["Authorization"]
    else:
        key = shared_hub.customer("openapi").headers["Authorization"]
    shared_hub.site(f"openapi-{role}")
    schema = schemathesis.openapi.from_dict(document(shared_hub))
    schema.config.update(base_url=shared_hub.url)
    failures: list[str] = []
    seen, began = 0, time.monotonic()
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @seed(1)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def call(case: schemathesis.Case) -> None:
                nonlocal seen
                seen += 1
                if case.path in ("/v1/events", "/v1/network/changes"):  # they have no end of their own
                    case.query = {"timeout_ms": 50, **(case.query or {})}
                for name in ("timeout_ms", "follow_ms"):  # what waits is waited for elsewhere
                    if case.query and isinstance(case.query.get(name), int):
                        case.query[name] = min(case.query[name], 50)
                case.call_and_validate(checks=CHECKS, headers={"Authorization": key}, timeout=20)

            try:
                call()
            except Unsatisfiable:
                assert mode is schemathesis.GenerationMode.NEGATIVE  # a call without any input cannot be a wrong one
            except Exception as error:  # noqa: BLE001 - all of them are told together
                failures.append(f"{operation.label} ({mode.name}): {type(error).__name__} {error}"[:1500])
    assert not failures, "\n\n".join(failures)
    assert seen > 300 and time.monotonic() - began < SECONDS
    assert operator.get("/v1/trial-balance").json()["balanced"]
