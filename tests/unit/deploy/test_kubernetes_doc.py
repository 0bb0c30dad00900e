"""docs/kubernetes.md: its examples are values that the chart takes."""

import re
import shlex
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.cli.parser import command_line
from devstack.go_build import BUILD_TIMEOUT_S
from unit.deploy.chart import CHART, NEWEST, OLDEST, ROOT, Helm, Object, container, of_kind, service_of, the

pytestmark = pytest.mark.timeout(BUILD_TIMEOUT_S + 240)

TEXT = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
EXAMPLES: list[dict[str, Any]] = [
    yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_helm_takes_the_example(helm: Helm, number: int) -> None:
    helm.lint(EXAMPLES[number])
    assert of_kind(helm.render(EXAMPLES[number]), "Deployment")


def test_there_is_an_example_for_each_way() -> None:
    databases = [example.get("database", {}).get("kind", "sqlite") for example in EXAMPLES]
    assert databases == ["sqlite", "postgres", "postgres", "sqlite"]
    assert "workers" in EXAMPLES[-1]


def test_the_message_of_the_page_is_that_of_helm(helm: Helm) -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    said = helm.refusal(
        {"image": {"repository": "a"}, "config": {"LIVEKIT_URL": "wss://example.livekit.cloud"}}
    )
    assert shown in said


def test_the_oldest_kubernetes_is_that_of_the_chart() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (oldest,) = re.findall(r"Kubernetes (1\.\d+) or later", TEXT)
    assert chart["kubeVersion"] == f">={oldest}.0-0"


def test_the_values_that_are_named_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in re.findall(r"`([a-z]\w*(?:\.\w+)+)`", TEXT):
        found = values
        for part in path.split("."):
            assert part in found, path
            found = found[part]


def test_no_value_of_the_env_file_has_a_comment() -> None:
    """`kubectl create secret --from-env-file` takes the whole rest of a line as the value."""
    (block,) = re.findall(r"^    # lifecycle\.env\n(.*?)^    ```", TEXT, re.MULTILINE | re.DOTALL)
    given = [line.strip() for line in block.splitlines() if not line.strip().startswith("#")]
    assert "API_KEYS=..." in given
    assert all("#" not in line for line in given)


# Files of SQLite


@pytest.fixture
def installed(helm: Helm) -> list[Object]:
    """As the page installs it with SQLite."""
    return helm.render(EXAMPLES[0] | {"fullnameOverride": "agents-agent-lifecycle"})


@pytest.fixture
def job() -> Object:
    (text,) = re.findall(r"apply -f - <<'EOF'\n(.*?)^EOF", TEXT, re.MULTILINE | re.DOTALL)
    return dict(yaml.safe_load(text))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_the_job(job: Object, version: str) -> None:
    kubernetes_validate.validate(job, version, strict=True)


def test_the_job_has_the_volume_the_image_and_the_rights_of_the_service(
    installed: list[Object], job: Object
) -> None:
    service, only = service_of(installed)["spec"]["template"], job["spec"]["template"]
    assert only["spec"]["securityContext"] == service["spec"]["securityContext"]
    assert only["spec"]["volumes"] == service["spec"]["volumes"]
    for field in ("image", "securityContext", "volumeMounts"):
        assert container(only)[field] == container(service)[field]


def test_the_objects_of_the_commands_exist(installed: list[Object]) -> None:
    for name in re.findall(r"deploy(?:/|ment )(agents\S+)", TEXT):
        the(installed, "Deployment", name)
    for name in re.findall(r"delete pvc ([\w-]+)", TEXT):
        the(installed, "PersistentVolumeClaim", name)


def test_the_service_knows_the_commands_and_they_write_to_the_volume(installed: list[Object]) -> None:
    (mount,) = container(service_of(installed)["spec"]["template"])["volumeMounts"]
    text = TEXT.replace("\\\n", " ")
    commands = re.findall(r"exec .* (agent-lifecycle (?:backup|restore|copy-database) .*)", text)
    assert len(commands) == 3
    for command in commands:
        _, *arguments = shlex.split(command)
        command_line({"DATABASE_URL": "postgresql://a:b@db/c"}, lambda *_: 0).parse_args(arguments)
        assert mount["mountPath"] in arguments[-1]
