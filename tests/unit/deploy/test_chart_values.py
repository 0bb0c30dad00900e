"""Values of the chart: which there are, what is said of wrong ones, and what the service reads from them."""

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.settings import Config, ConfigError, load_config
from devstack.go_build import BUILD_TIMEOUT_S
from unit.deploy.chart import CASES, CHART, ROOT, Helm, Object, container, env, pods, service_of, the

pytestmark = pytest.mark.timeout(BUILD_TIMEOUT_S + 240)

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
SETTINGS = {entry.metadata["name"]: entry for entry in fields(Config) if entry.metadata}
#: The chart sets them itself.
OWN = {"PORT", "DATABASE_URL", "AGENTS_FILE"}

MINIMAL = CASES["sqlite"]


# Which values there are


def test_each_setting_has_its_value() -> None:
    plain = set(SCHEMA["properties"]["config"]["properties"])
    secret = set(SCHEMA["properties"]["secret"]["properties"]["settings"]["properties"])
    assert plain | secret | OWN == set(SETTINGS), (
        "add it to values.schema.json: to config, or to secret.settings"
    )
    assert not plain & (secret | OWN)
    assert not secret & OWN


def test_no_secret_is_a_value() -> None:
    secrets = {name for name, entry in SETTINGS.items() if not entry.repr} | {"LIVEKIT_WEBHOOK_KEYS"}
    assert "API_KEYS" in secrets
    assert not secrets & set(SCHEMA["properties"]["config"]["properties"])


def compare(values: Any, schema: Any, path: str) -> None:
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if not isinstance(values, dict) or "properties" not in schema:
        return
    assert schema["additionalProperties"] is False, path
    assert set(values) == set(schema["properties"]) - {"global"}, path
    for name, value in values.items():
        if f"{path}.{name}" not in (".config", ".secret.settings"):
            compare(value, schema["properties"][name], f"{path}.{name}")


def test_values_yaml_has_each_value_of_the_schema() -> None:
    compare(VALUES, SCHEMA, "")


def test_the_settings_from_secrets_are_named_for_the_reader() -> None:
    text = (CHART / "values.yaml").read_text()
    for name in SCHEMA["properties"]["secret"]["properties"]["settings"]["properties"]:
        assert name in text


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert chart["appVersion"] == chart["version"] == version


def test_the_trial_postgres_is_that_of_compose() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert VALUES["trialPostgres"]["image"] == compose["services"]["postgres"]["image"]


# Wrong values


def test_all_that_is_missing_is_named_at_once(helm: Helm) -> None:
    said = helm.refusal()
    for name in ("image.repository", "secret.existingSecret", "config.LIVEKIT_URL", "config.AGENT_NAME"):
        assert f"  {name} is required" in said
    assert "API_KEYS, LIVEKIT_API_KEY, LIVEKIT_API_SECRET" in said


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"config": {"LOG_LEVL": "DEBUG"}}, "at '/config': additional properties 'LOG_LEVL' not allowed"),
        ({"config": {"API_KEYS": "a-key-in-the-values"}}, "additional properties 'API_KEYS' not allowed"),
        ({"secret": {"settings": {"LIVEKIT_API_SECRET": "a"}}}, "got string, want"),
        ({"secret": {"settings": {"LIVEKIT_API_KEY": None}}}, "secret.settings.LIVEKIT_API_KEY is required"),
        ({"imagee": {}}, "additional properties 'imagee' not allowed"),
        ({"image": {"digest": "sha256:short"}}, "at '/image/digest'"),
        ({"database": {"kind": "mysql"}}, "at '/database/kind': value must be one of 'sqlite', 'postgres'"),
        ({"replicaCount": 2}, "replicaCount must be 1 with database.kind sqlite"),
        ({"trialPostgres": {"enabled": True}}, "trialPostgres.enabled needs database.kind postgres"),
        (
            {"database": {"kind": "postgres"}, "trialPostgres": {"enabled": True}},
            "trialPostgres.existingSecret is required",
        ),
        (
            {
                "database": {"kind": "postgres", "postgres": {"existingSecret": "a"}},
                "trialPostgres": {"enabled": True, "existingSecret": "b"},
            },
            "database.postgres.existingSecret and trialPostgres.enabled exclude each other",
        ),
        ({"ingress": {"enabled": True}}, "ingress.host is required"),
        (
            {"config": {"METRICS_PUBLIC": False}, "serviceMonitor": {"enabled": True}},
            "serviceMonitor.apiKey.existingSecret and .key are required",
        ),
        (
            {"config": {"METRICS_PUBLIC": "OFF"}, "serviceMonitor": {"enabled": True}},
            "serviceMonitor.apiKey.existingSecret and .key are required",
        ),
        ({"workers": {"support": {}}}, "workers.support.image is required"),
        ({"workers": {"suport": {"image": "a"}}}, 'workers.suport serves "suport", which is not one of'),
        (
            {
                "workerDefaults": {"agentName": "support", "autoscaling": {"enabled": True}},
                "workers": {"v1": {}, "v2": {}},
            },
            "workers.v1 and workers.v2 scale the same agent",
        ),
        ({"workers": {"a": {"image": "b", "replica": 2}}}, "additional properties 'replica' not allowed"),
        (
            {"workers": {"a": {"image": "b", "autoscaling": {"enabled": True}}}},
            "workers.a.autoscaling.prometheusAddress is required",
        ),
        (
            {
                "workerDefaults": {"autoscaling": {"minReplicas": 20}},
                "workers": {"a": {"autoscaling": {"enabled": True}}},
            },
            "workers.a.autoscaling.minReplicas is more than maxReplicas",
        ),
    ],
)
def test_a_wrong_value_is_named(helm: Helm, values: Object, complaint: str) -> None:
    assert complaint in helm.refusal(MINIMAL, values)


# What the service reads


def as_started(objects: list[Object], folder: Path) -> dict[str, str]:
    """The environment of the service's container, with secrets filled in and the policy in a file."""
    pod = service_of(objects)["spec"]["template"]
    found: dict[str, str] = {}
    for name, entry in env(pod).items():
        if "value" in entry:
            text = entry["value"]
            for variable, value in found.items():
                text = text.replace(f"$({variable})", value)
            found[name] = text
        else:
            assert entry["valueFrom"].keys() == {"secretKeyRef"}
            found[name] = "livekit:" * (name == "LIVEKIT_WEBHOOK_KEYS") + "s3cret" * 8
    for name in {"ALERT_WEBHOOK_URL", "DATABASE_URL"} & found.keys():
        if "value" not in env(pod)[name]:
            found[name] = {"ALERT_WEBHOOK_URL": "https://hooks.example.com/a"}.get(
                name, "postgresql://a:b@db/c"
            )
    if "AGENTS_FILE" in found:
        path = Path(found["AGENTS_FILE"])
        (mount,) = (one for one in container(pod)["volumeMounts"] if one["mountPath"] == str(path.parent))
        (volume,) = (one for one in pod["spec"]["volumes"] if one["name"] == mount["name"])
        written = the(objects, "ConfigMap", volume["configMap"]["name"])["data"][path.name]
        found["AGENTS_FILE"] = str(folder / path.name)
        (folder / path.name).write_text(written)
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_service_takes_its_environment_without_a_warning(
    rendered: dict[str, list[Object]], case: str, tmp_path: Path
) -> None:
    objects = rendered[case]
    try:
        config = load_config(as_started(objects, tmp_path))
    except ConfigError as error:
        pytest.fail(str(error))
    assert config.warnings == ()
    pod = service_of(objects)["spec"]["template"]
    assert [port["containerPort"] for port in container(pod)["ports"]] == [config.port]
    given = yaml.safe_load(CASES[case].read_text())
    assert config.livekit_url == given["config"]["LIVEKIT_URL"]
    kind = given.get("database", {}).get("kind", "sqlite")
    assert config.database_url.startswith(f"{kind}{'ql' if kind == 'postgres' else ''}+")


def test_each_value_arrives_as_it_is_written(rendered: dict[str, list[Object]], tmp_path: Path) -> None:
    """Helm reads numbers as floats, and prints those with seven digits as 2.592e+06."""
    config = load_config(as_started(rendered["everything"], tmp_path))
    assert config.memory_ttl_s == 2_592_000
    assert config.conversation_memory
    assert not config.metrics_public
    assert config.agent_names == ("support", "caller")
    assert config.policies["caller"].phone_ttl_s == 0
    worker = pods(rendered["everything"])["lifecycle-support"]
    assert env(worker)["MAX_TOKENS"]["value"] == "2000000"


def test_a_setting_from_another_secret(rendered: dict[str, list[Object]]) -> None:
    variables = env(service_of(rendered["everything"])["spec"]["template"])
    found = {
        name: entry["valueFrom"]["secretKeyRef"] for name, entry in variables.items() if "valueFrom" in entry
    }
    assert found == {
        "LIVEKIT_API_KEY": {"name": "agent-lifecycle", "key": "LIVEKIT_API_KEY"},
        "LIVEKIT_API_SECRET": {"name": "livekit", "key": "secret"},
        "LIVEKIT_WEBHOOK_KEYS": {"name": "agent-lifecycle", "key": "LIVEKIT_WEBHOOK_KEYS"},
        "API_KEYS": {"name": "agent-lifecycle", "key": "API_KEYS"},
        "MEMORY_KEY": {"name": "memory", "key": "MEMORY_KEY"},
        "ALERT_WEBHOOK_URL": {"name": "agent-lifecycle", "key": "slack"},
        "DATABASE_URL": {"name": "postgres-app", "key": "uri"},
    }


def test_a_setting_can_be_left_out(rendered: dict[str, list[Object]]) -> None:
    assert "API_KEYS" not in env(service_of(rendered["trial"])["spec"]["template"])


def test_what_is_said_after_the_installation(helm: Helm) -> None:
    notes = helm.notes(MINIMAL)
    assert "helm test x --namespace voice --logs\n" in notes
    assert "http://x-agent-lifecycle.voice.svc:80/api/livekit/webhook" in notes
    assert "kubectl delete pvc x-agent-lifecycle --namespace voice" in notes
    notes = helm.notes(CASES["everything"])
    assert "https://agents.example.com/api/livekit/webhook" in notes
    assert "TRUSTED_PROXIES" not in notes
    assert "The database is a trial" in helm.notes(CASES["trial"])
