"""What FastAPI cannot know of the hub's own OpenAPI document: refusals, keys, and what sites sign."""

from typing import Any

from fastapi import FastAPI

from yunhe.wire.api import Problem
from yunhe.wire.problem import CONTENT_TYPE

_REFERENCES = "#/components/schemas/{model}"
_PROBLEM = {
    "description": "Refused: problem+json (RFC 9457)",
    "content": {CONTENT_TYPE: {"schema": {"$ref": _REFERENCES.format(model="Problem")}}},
}
_KEY = {"type": "http", "scheme": "bearer", "description": "an API key, yk_..."}


def describe(app: FastAPI) -> None:
    """Every refusal leaves as problem+json, and most calls need a key: let the document say so."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            parts = schema.setdefault("components", {})
            parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema(ref_template=_REFERENCES)
            parts["securitySchemes"] = {"key": _KEY}
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
                    operation["responses"]["default"] = _PROBLEM
                    if _needs_key(path, operation):
                        operation["security"] = [{"key": []}]
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI's manual shows


def _needs_key(path: str, operation: dict[str, Any]) -> bool:
    """Sites sign instead; facts and the hub's own state are open."""
    return path.startswith("/v1/") and not path.startswith("/v1/agent/") and "facts" not in operation.get("tags", ())
