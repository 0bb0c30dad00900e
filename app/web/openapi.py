"""The OpenAPI 3.1 document, generated from the route table and from the types that check requests."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from app.errors import (
    Busy,
    DatabaseUnavailable,
    Forbidden,
    Invalid,
    Malformed,
    RateLimited,
    ServiceError,
    TooLarge,
    TooSlow,
    Unauthenticated,
)
from app.web.endpoints import Access, AnyEndpoint
from app.web.error_responses import ErrorBody

PATH = "/openapi.json"

_JSON = "application/json"
_REF = "#/components/schemas/{name}"
_DESCRIPTION = """\
Keeps exactly one LiveKit agent that answers in every room where people want one.

Times are ISO 8601 in UTC. Every error is `{success: false, code, message, retryable, requestId}`; `code` is
stable. Every response has `X-Request-Id`: the caller's own if that is valid. Calls are limited per caller:
`RateLimit-Policy` and `RateLimit` report the limit and what is left; a 429 has `Retry-After`."""

_SECURITY_SCHEMES = {
    "participant": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The participant's LiveKit token; it must grant `roomJoin` for this room.",
    },
    "apiKey": {"type": "http", "scheme": "bearer", "description": "One of `API_KEYS`."},
    "livekit": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "LiveKit's JWT without `Bearer`; its claim `sha256` is the digest of the body.",
    },
    "worker": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A JWT of LiveKit's key that grants `agent`; `sha256` is the digest of the body.",
    },
}
_SECURITY: dict[Access, list[dict[str, list[str]]]] = {
    Access.PROBE: [],
    Access.SCRAPER: [],
    Access.ANYBODY: [],
    Access.LIVEKIT: [{"livekit": []}],
    Access.WORKER: [{"worker": []}],
    Access.MEMBER: [{"participant": []}, {"apiKey": []}],
    Access.OPERATOR: [{"apiKey": []}],
}


def build_document(endpoints: Sequence[AnyEndpoint]) -> dict[str, Any]:
    """The document of these endpoints; every fact in it comes from them."""
    types = {
        type_
        for endpoint in endpoints
        for type_ in (endpoint.answer, endpoint.body, endpoint.query)
        if type_ is not None
    } | {ErrorBody}
    ordered = sorted(types, key=lambda type_: type_.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(endpoint.path, {})
        operations[endpoint.method.lower()] = _operation(endpoint, components)
    for endpoint in endpoints:
        # The fields of a query are listed as parameters of its operation.
        if endpoint.query:
            components.pop(endpoint.query.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Agent lifecycle service for LiveKit", "version": "1", "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY_SCHEMES},
    }


def errors_of(endpoint: AnyEndpoint) -> list[type[ServiceError]]:
    """All errors of an endpoint, sorted by status."""
    found: list[type[ServiceError]] = [ServiceError, *endpoint.errors]
    if endpoint.access.is_identified or endpoint.access.is_signed:
        found.append(Unauthenticated)
    if endpoint.access.is_identified or endpoint.access is Access.WORKER:
        found.append(Forbidden)
    if endpoint.access not in (Access.PROBE, Access.LIVEKIT):
        found.append(RateLimited)
    if endpoint.access.is_call:
        found.append(Busy)
    if endpoint.body:
        found += [Malformed, TooLarge, TooSlow]
    if endpoint.access is not Access.LIVEKIT and (endpoint.body or endpoint.query):
        found.append(Invalid)
    if endpoint.access not in (Access.PROBE, Access.SCRAPER):
        found.append(DatabaseUnavailable)
    return sorted(set(found), key=lambda error: (error.status, error.code))


def _operation(endpoint: AnyEndpoint, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        "description": f"Access: {endpoint.access.value}.",
        "parameters": [*_path_parameters(endpoint.path), *_query_parameters(endpoint, components)],
        "responses": _responses(endpoint),
        "security": _SECURITY[endpoint.access],
    }
    if endpoint.body:
        is_webhook = endpoint.access is Access.LIVEKIT
        media = "application/webhook+json" if is_webhook else _JSON
        operation["requestBody"] = {
            "required": not endpoint.body_if_none,
            "content": {media: {"schema": _reference(endpoint.body)}},
        }
    return operation


def _path_parameters(path: str) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(endpoint: AnyEndpoint, components: dict[str, Any]) -> Iterable[dict[str, Any]]:
    if endpoint.query is None:
        return
    schema = components[endpoint.query.__name__]
    for name, field in schema["properties"].items():
        yield {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": _without_null(field),
        }


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter: it can be left out, but it cannot be null."""
    if "anyOf" not in field:
        return field
    (schema,) = [one for one in field["anyOf"] if one != {"type": "null"}]
    return dict(schema)


def _responses(endpoint: AnyEndpoint) -> dict[str, Any]:
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if endpoint.answer:
        content = {_JSON: {"schema": _reference(endpoint.answer)}}
        content |= {media: {"schema": {"type": "string"}} for media in endpoint.also_as}
    responses = {
        str(status): {"description": "Success" if status < 300 else "Not ready", "content": content}  # noqa: PLR2004 - HTTP's own
        for status in endpoint.statuses
    }
    codes: dict[int, list[str]] = {}
    for error in errors_of(endpoint):
        codes.setdefault(error.status, []).append(error.code)
    for status, named in codes.items():
        if status not in endpoint.statuses:
            responses[str(status)] = _failure(status, named)
    return responses


def _failure(status: int, codes: Sequence[str]) -> dict[str, Any]:
    failure: dict[str, Any] = {
        "description": " or ".join(f"`{code}`" for code in codes),
        "content": {_JSON: {"schema": _reference(ErrorBody)}},
    }
    if status in (RateLimited.status, DatabaseUnavailable.status):
        failure["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
        }
    return failure


def _reference(type_: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=type_.__name__)}
