"""The Python client against the OpenAPI document: its calls, models and errors are those of the service."""

import datetime as dt
import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from agent_lifecycle_client import AsyncClient, Client, calls, models
from agent_lifecycle_client.calls import Call
from agent_lifecycle_client.errors import BY_CODE, ServiceError
from agent_lifecycle_client.model_base import Model
from jsonschema import Draft202012Validator

from devstack.client_models import MODELS, document, operations, render

#: For LiveKit, for workers, and text for Prometheus.
NOT_FOR_CALLERS = {
    "take_webhook",
    "load_memory",
    "save_memory",
    "forget_memory",
    "take_report",
    "show_metrics",
}
#: CSV is for spreadsheets.
NOT_OFFERED = {"show_usage": {"format"}}

DAY = dt.date(2026, 11, 30)
FULL: Mapping[str, dict[str, Any]] = {
    "request_agent": {
        "room_name": "a room/ü",
        "agent_name": "agent",
        "metadata": {"name": "Alice"},
        "replace_if_metadata_differs": True,
        "timezone": "Europe/Berlin",
        "timezone_offset": 60,
        "resume": True,
        "wait": "ready",
        "wait_s": 30,
    },
    "end_agent": {"room_name": "room", "agent_name": "agent", "only_if_empty": True},
    "show_status": {"room_name": "room", "agent_name": "agent"},
    "issue_token": {
        "room_name": "room",
        "participant_identity": "alice",
        "participant_name": "Alice",
        "participant_metadata": "{}",
        "participant_attributes": {"plan": "free"},
        "room_config": {"agents": [{"agent_name": "agent"}]},
    },
    "list_agents": {
        "state": ("active", "idle"),
        "room_name": "room",
        "agent_name": "agent",
        "limit": 500,
        "cursor": "1.a",
    },
    "show_agent": {"dispatch_id": "AD_1/../2"},
    "hold_agent": {"dispatch_id": "AD_1"},
    "resume_agent": {"dispatch_id": "AD_1"},
    "show_usage": {"first": DAY, "to": DAY + dt.timedelta(days=1), "by": "day"},
    "forget_room": {"room_name": "room", "agent_name": "agent"},
    "list_events": {"after": 40, "limit": 10},
    "list_event_endpoints": {},
    "replay_events": {"after": 40, "before": 60, "endpoint": "https://crm.example.com/agents"},
    "list_workers": {},
    "drain_worker": {"worker_id": "worker-1"},
    "undrain_worker": {"worker_id": "worker-1"},
    "drain_deployment": {"deployment": "blue"},
    "undrain_deployment": {"deployment": ""},
    "show_health": {},
    "show_readiness": {},
}
DOCUMENT = document()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
#: What references in a schema refer to.
COMPONENTS = {"components": DOCUMENT["components"]}
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (path, method.upper(), operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def build(name: str, arguments: Mapping[str, Any]) -> Call[Any]:
    made: Call[Any] = getattr(calls, name)(**arguments)
    return made


def required(name: str) -> dict[str, Any]:
    """The arguments without which the call cannot be made."""
    parameters = inspect.signature(getattr(calls, name)).parameters.values()
    return {one.name: FULL[name][one.name] for one in parameters if one.default is inspect.Parameter.empty}


def name_of(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


# Calls


def test_the_models_are_what_the_document_makes_them() -> None:
    assert MODELS.read_text(encoding="utf-8") == render(), "run: python -m devstack.client_models"


def test_every_operation_for_callers_is_a_method_of_both_clients() -> None:
    assert operations() == OPERATIONS.keys() - NOT_FOR_CALLERS
    for client in (Client, AsyncClient):
        methods = {name for name in vars(client) if not name.startswith("_")}
        assert methods - {"send", "close", "aclose"} == operations()


@pytest.mark.parametrize("name", sorted(FULL))
def test_a_method_has_the_signature_of_its_call(name: str) -> None:
    call = inspect.signature(getattr(calls, name))
    for client in (Client("http://service", "key"), AsyncClient("http://service", "key")):
        method = inspect.signature(getattr(client, name))
        assert method.parameters == call.parameters
        assert method.return_annotation is build(name, FULL[name]).answer


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("name", sorted(FULL))
def test_a_call_is_one_that_the_document_describes(name: str, *, full: bool) -> None:
    path, method, operation = OPERATIONS[name]
    call = build(name, FULL[name] if full else required(name))
    assert call.method == method
    assert re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), call.path)

    described = {one["name"]: one for one in operation["parameters"] if one["in"] == "query"}
    needed = {name for name, one in described.items() if one["required"]}
    offered = described.keys() - NOT_OFFERED.get(name, set())
    assert needed <= call.params.keys() <= described.keys()
    for parameter, text in call.params.items():
        schema = described[parameter]["schema"]
        value = json.loads(text) if schema.get("type") in ("integer", "boolean") else text
        Draft202012Validator(schema | COMPONENTS).validate(value)

    if "requestBody" in operation:
        body = name_of(operation["requestBody"]["content"]["application/json"]["schema"])
        Draft202012Validator(SCHEMAS[body] | COMPONENTS).validate(call.body)
        offered = SCHEMAS[body]["properties"].keys()
    else:
        assert call.body is None
    if full:
        assert (call.body or call.params).keys() == offered


@pytest.mark.parametrize("name", sorted(FULL))
def test_an_answer_is_read_as_what_the_document_says(name: str) -> None:
    _, _, operation = OPERATIONS[name]
    call = build(name, FULL[name])
    described = {
        int(status): name_of(response["content"]["application/json"]["schema"])
        for status, response in operation["responses"].items()
        if "application/json" in response["content"]
    }
    answers = {status for status, schema in described.items() if schema != "ErrorBody"}
    assert call.statuses == answers
    assert {described[status] for status in answers} == {call.answer.__name__}


def test_the_readme_installs_this_package_from_a_checkout() -> None:
    root = MODELS.parents[3]
    (folder,) = re.findall(
        r"^pip install (\S+)$", (root / "client/README.md").read_text("utf-8"), re.MULTILINE
    )
    project = tomllib.loads((root / folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"].replace("-", "_") == calls.__name__.partition(".")[0]


def test_each_documented_code_is_an_error_of_its_own() -> None:
    documented = {
        code
        for name in operations()
        for response in OPERATIONS[name][2]["responses"].values()
        for code in re.findall(r"`(\w+)`", response["description"])
    }
    assert set(BY_CODE) == documented
    assert "" not in BY_CODE
    assert all(issubclass(error, ServiceError) for error in BY_CODE.values())


# Models


def example(schema: Mapping[str, Any], *, full: bool) -> Any:
    """A value that the schema describes: with everything that may be there, or with as little as may be."""
    if "$ref" in schema:
        return example(SCHEMAS[name_of(schema)], full=full)
    if "anyOf" in schema:
        choices = schema["anyOf"]
        return example(choices[0], full=full) if full else None
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"], schema.get("format"):
        case "object", _ if "properties" in schema:
            fields = (
                schema["properties"]
                if full
                else {name: schema["properties"][name] for name in schema["required"]}
            )
            return {name: example(field, full=full) for name, field in fields.items()}
        case "object", _:
            return {"key": example(schema["additionalProperties"], full=full)} if full else {}
        case "array", _:
            return [example(schema["items"], full=full)] if full else []
        case "string", "date-time":
            return "2026-11-30T12:00:00.250000Z"
        case "string", "date":
            return "2026-11-30"
        case kind, _:
            return {"string": "text", "integer": 3, "number": 0.5, "boolean": True}[kind]


def model_names() -> Iterator[str]:
    for name, model in vars(models).items():
        if inspect.isclass(model) and model.__module__ == models.__name__:
            yield name


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("name", sorted(model_names()))
def test_a_model_keeps_everything_that_an_answer_has(name: str, *, full: bool) -> None:
    answer = example(SCHEMAS[name] | {"required": SCHEMAS[name].get("required", [])}, full=full)
    Draft202012Validator(SCHEMAS[name] | COMPONENTS).validate(answer)
    model: type[Model] = getattr(models, name)

    read = model.model_validate(answer)

    again = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    # An answer that is no success is an exception.
    assert again == {field: value for field, value in answer.items() if field != "success"}


def test_what_a_later_service_adds_is_ignored() -> None:
    answer = example(SCHEMAS["DispatchResponse"], full=True) | {"source": "conjured", "new": [1]}
    assert models.DispatchResponse.model_validate(answer).source == "conjured"


def test_times_have_their_zone_and_from_is_a_field() -> None:
    agent = models.AgentItem.model_validate(example(SCHEMAS["AgentItem"], full=True))
    assert agent.created_at == dt.datetime(2026, 11, 30, 12, 0, 0, 250_000, tzinfo=dt.UTC)
    assert models.UsageResponse.model_validate(example(SCHEMAS["UsageResponse"], full=True)).from_ == DAY


def test_an_application_can_make_answers_of_its_own() -> None:
    assert models.EndResponse(dispatch_id=None, message="").dispatch_id is None
