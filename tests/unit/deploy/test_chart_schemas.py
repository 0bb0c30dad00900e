"""Helm accepts the chart, and Kubernetes and the operators accept what it renders."""

import json
import re
from pathlib import Path

import kubernetes_validate
import pytest

from devstack.go_build import BUILD_TIMEOUT_S
from devstack.npm import NpmError, installed
from unit.deploy.chart import CASES, CHART, NEWEST, OLDEST, Helm, Object, of_kind

pytestmark = pytest.mark.timeout(BUILD_TIMEOUT_S + 240)

#: Those of other schemas: the module of their models.
MODELS = {
    "ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
    "PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1",
}


def test_helm_finds_nothing_to_warn_of_without_values(helm: Helm) -> None:
    helm.lint()


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_nothing_to_warn_of(helm: Helm, case: str) -> None:
    helm.lint(CASES[case])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(helm: Helm, case: str, version: str) -> None:
    own = [found for found in helm.render(CASES[case], kubernetes=version) if found["kind"] not in MODELS]
    assert own
    for found in own:
        assert kubernetes_validate.validate(found, version, strict=True) == version


def test_everything_has_each_kind(rendered: dict[str, list[Object]]) -> None:
    """A template that no case renders would be validated by nobody."""
    kinds = {found["kind"] for objects in rendered.values() for found in objects}
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*.yaml"))
    assert kinds == set(re.findall(r"^kind: (\w+)$", templates, re.MULTILINE))


def test_a_field_that_kubernetes_does_not_know_is_found(rendered: dict[str, list[Object]]) -> None:
    wrong = json.loads(json.dumps(of_kind(rendered["postgres"], "Deployment")[0]))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessProb"):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


def check_models(objects: list[Object], folder: Path) -> None:
    """Raises NpmError with what is wrong: the types know the fields, and the models know their values."""
    packages = Path(__file__).parent / "models"
    lines = [f'import * as {kind} from "{module}";' for kind, module in MODELS.items()]
    for number, found in enumerate(objects):
        kind = found["kind"]
        lines.append(f"const it{number}: {kind}.I{kind} = {json.dumps(found)};")
        lines.append(f"new {kind}.{kind}(it{number}).validate();")
    file = folder / "resources.mts"
    file.write_text("\n".join(lines))
    (folder / "node_modules").symlink_to(packages / "node_modules")
    options = ("--noEmitOnError", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")
    with installed(packages) as npm:
        npm.run("exec", "--silent", "--", "tsc", "--pretty", "false", *options, str(file))
        # Not the file itself: Node.js before 22.18 runs no TypeScript.
        npm.run("exec", "--silent", "--", "node", str(file.with_suffix(".mjs")))


def test_the_operators_know_every_field(rendered: dict[str, list[Object]], tmp_path: Path) -> None:
    found = [one for objects in rendered.values() for one in of_kind(objects, *MODELS)]
    assert {one["kind"] for one in found} == set(MODELS)
    check_models(found, tmp_path)


@pytest.mark.parametrize(
    ("kind", "change", "complaint"),
    [
        (
            "ScaledObject",
            {"spec": {"scaleTargetRef": {"name": "a"}, "triggers": [], "maxReplicas": 1}},
            "maxReplicas",
        ),
        ("ServiceMonitor", {"spec": {"selector": {}, "endpoints": [{"interval": "15 s"}]}}, "interval"),
    ],
)
def test_a_field_that_an_operator_does_not_know_is_found(
    rendered: dict[str, list[Object]], tmp_path: Path, kind: str, change: Object, complaint: str
) -> None:
    wrong = of_kind(rendered["everything"], kind)[0] | change
    with pytest.raises(NpmError, match=complaint):
        check_models([wrong], tmp_path)


def test_the_package_works_where_the_repository_is_not(helm: Helm, tmp_path: Path) -> None:
    helm.output("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.iterdir()
    assert helm.render(CASES["everything"], chart=package) == helm.render(CASES["everything"])
