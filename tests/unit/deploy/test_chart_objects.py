"""What the rendered objects promise: few rights, labels that match, pods that end in time, few open ports."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePosixPath

import pytest
import yaml
from livekit.agents.worker import DRAIN_TIMEOUT

from devstack.go_build import BUILD_TIMEOUT_S
from unit.deploy.chart import (
    CASES,
    CHART,
    NAMESPACE,
    ROOT,
    Helm,
    Object,
    container,
    env,
    of_kind,
    pods,
    service_of,
    the,
)

pytestmark = pytest.mark.timeout(BUILD_TIMEOUT_S + 240)

#: docs/operations.md, Stopping: the longest that a stop takes, and a margin.
STOP_S = 15

everywhere = pytest.mark.parametrize("case", CASES)


# Rights


@everywhere
def test_every_pod_keeps_the_restricted_standard(rendered: dict[str, list[Object]], case: str) -> None:
    """As https://kubernetes.io/docs/concepts/security/pod-security-standards has it; and a read-only root."""
    for name, pod in pods(rendered[case]).items():
        spec, only = pod["spec"], container(pod)
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        assert all("hostPath" not in volume for volume in spec.get("volumes") or ())
        assert all("hostPort" not in port for port in only.get("ports", ()))
        assert spec["automountServiceAccountToken"] is False
        # Otherwise Kubernetes adds variables such as AGENT_LIFECYCLE_PORT=tcp://...
        assert spec["enableServiceLinks"] is False
        assert {"cpu", "memory"} <= set(only["resources"]["requests"])
        assert "memory" in only["resources"]["limits"]


@everywhere
def test_the_chart_makes_no_secret(rendered: dict[str, list[Object]], case: str) -> None:
    assert not of_kind(rendered[case], "Secret")
    secret = re.compile(r"KEY|SECRET|PASSWORD|TOKEN|ALERT_WEBHOOK_URL")
    for pod in pods(rendered[case]).values():
        for name, entry in env(pod).items() if "env" in container(pod) else ():
            if secret.search(name) and name != "MAX_TOKENS":
                assert set(entry["valueFrom"]["secretKeyRef"]) == {"name", "key"}, name


def test_postgres_can_write_where_it_has_to(rendered: dict[str, list[Object]]) -> None:
    mounts = {
        mount["mountPath"]
        for mount in container(pods(rendered["trial"])["x-agent-lifecycle-postgres"])["volumeMounts"]
    }
    assert mounts == {"/var/lib/postgresql/data", "/var/run/postgresql", "/tmp"}  # noqa: S108 - in the container


# What belongs together


@everywhere
def test_what_selects_pods_selects_those_of_its_name(rendered: dict[str, list[Object]], case: str) -> None:
    objects = rendered[case]
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects).items()}

    def selected(selector: dict[str, str]) -> set[str]:
        return {name for name, has in labels.items() if selector.items() <= has.items()}

    for owner in of_kind(objects, "Deployment", "StatefulSet"):
        assert selected(owner["spec"]["selector"]["matchLabels"]) == {owner["metadata"]["name"]}
        # A selector cannot be changed, so it must not have the version.
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(
            owner["spec"]["selector"]["matchLabels"]
        )
    for service in of_kind(objects, "Service"):
        assert selected(service["spec"]["selector"]) == {service["metadata"]["name"]}
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert selected(budget["spec"]["selector"]["matchLabels"]) == {budget["metadata"]["name"]}
    for policy in of_kind(objects, "NetworkPolicy"):
        assert selected(policy["spec"]["podSelector"]["matchLabels"]) == {policy["metadata"]["name"]}
    for monitor in of_kind(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [one for one in of_kind(objects, "Service") if wanted <= one["metadata"]["labels"].items()]
        assert [one["metadata"]["name"] for one in found] == [monitor["metadata"]["name"]]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in found[0]["spec"]["ports"]}
        assert endpoint["path"] == "/metrics"


@everywhere
def test_what_is_named_exists(rendered: dict[str, list[Object]], case: str) -> None:
    objects = rendered[case]
    for pod in pods(objects).values():
        spec, only = pod["spec"], container(pod)
        volumes = {volume["name"] for volume in spec.get("volumes") or ()}
        claims = of_kind(objects, "StatefulSet")
        templates = {
            one["metadata"]["name"] for owner in claims for one in owner["spec"]["volumeClaimTemplates"]
        }
        assert {mount["name"] for mount in only.get("volumeMounts") or ()} <= volumes | templates
        ports = {port["name"] for port in only.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "httpGet" in only.get(probe, {}):
                assert only[probe]["httpGet"]["port"] in ports
        if "serviceAccountName" in spec:
            the(objects, "ServiceAccount", spec["serviceAccountName"])
    for scaled in of_kind(objects, "ScaledObject"):
        target = the(objects, "Deployment", scaled["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"], "the chart and KEDA would both set it"
    for ingress in of_kind(objects, "Ingress"):
        (rule,) = ingress["spec"]["rules"]
        backend = rule["http"]["paths"][0]["backend"]["service"]
        (port,) = the(objects, "Service", backend["name"])["spec"]["ports"]
        assert backend["port"]["name"] == port["name"]
    for service in of_kind(objects, "Service"):
        pod = pods(objects)[service["metadata"]["name"]]
        names = {port["name"] for port in container(pod)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def test_workers_reach_the_service(rendered: dict[str, list[Object]]) -> None:
    objects = rendered["everything"]
    service = the(objects, "Service", "lifecycle")
    (port,) = service["spec"]["ports"]
    for name in ("lifecycle-support", "lifecycle-phone"):
        url = env(pods(objects)[name])["AGENT_LIFECYCLE_URL"]["value"]
        assert url == f"http://lifecycle.{NAMESPACE}.svc:{port['port']}"


def test_a_worker_has_the_keys_of_the_service_and_its_own_name(rendered: dict[str, list[Object]]) -> None:
    objects = rendered["everything"]
    service = env(service_of(objects)["spec"]["template"])
    for name, agent in (("lifecycle-support", "support"), ("lifecycle-phone", "caller")):
        worker = env(pods(objects)[name])
        for variable in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
            assert worker[variable] == service[variable]
        assert worker["AGENT_NAME"]["value"] == agent
        assert agent in service["AGENT_NAME"]["value"].split(",")


# SQLite or Postgres


def test_sqlite_has_one_process_and_its_volume(rendered: dict[str, list[Object]]) -> None:
    objects = rendered["sqlite"]
    deployment = service_of(objects)
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    pod = deployment["spec"]["template"]
    (mount,) = container(pod)["volumeMounts"]
    database = PurePosixPath(env(pod)["DATABASE_URL"]["value"])
    assert str(database.parent) == mount["mountPath"]
    (volume,) = pod["spec"]["volumes"]
    claim = the(objects, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert not of_kind(objects, "PodDisruptionBudget")


def test_a_claim_that_exists_is_used(helm: Helm) -> None:
    objects = helm.render(CASES["sqlite"], {"database": {"sqlite": {"existingClaim": "mine"}}})
    assert not of_kind(objects, "PersistentVolumeClaim")
    (volume,) = service_of(objects)["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "mine"


def test_replicas_on_postgres_are_updated_one_after_the_other(rendered: dict[str, list[Object]]) -> None:
    deployment = service_of(rendered["postgres"])
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    keys = [one["topologyKey"] for one in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


@pytest.mark.parametrize(("replicas", "budgets"), [(1, 0), (2, 1)])
def test_no_budget_blocks_the_drain_of_a_node(helm: Helm, replicas: int, budgets: int) -> None:
    found = of_kind(helm.render(CASES["postgres"], {"replicaCount": replicas}), "PodDisruptionBudget")
    assert len(found) == budgets
    for budget in found:
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]


def test_a_changed_policy_restarts_the_pods(helm: Helm) -> None:
    before, after = (
        service_of(helm.render(CASES["everything"], {"agents": f"[defaults]\nttl_s = {ttl}\n"}))
        for ttl in (60, 90)
    )
    assert before["spec"]["template"] != after["spec"]["template"]


# Start and stop


@everywhere
def test_the_probes_ask_what_docs_operations_says(rendered: dict[str, list[Object]], case: str) -> None:
    only = container(service_of(rendered[case])["spec"]["template"])
    assert only["livenessProbe"]["httpGet"]["path"] == only["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert only["readinessProbe"]["httpGet"]["path"] == "/readyz"
    startup = only["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600, "migrations come first"
    text = (ROOT / "docs/operations.md").read_text()
    assert f"`terminationGracePeriodSeconds: {STOP_S}`; readiness `/readyz`, liveness `/healthz`" in text


@everywhere
def test_a_pod_has_the_time_that_a_stop_takes(rendered: dict[str, list[Object]], case: str) -> None:
    """On SQLite nothing else could take requests: there a wait would only be a longer downtime."""
    pod = service_of(rendered[case])["spec"]["template"]
    before = container(pod).get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})["preStop"]["sleep"][
        "seconds"
    ]
    assert before == {"sqlite": 0, "trial": 5, "postgres": 5, "everything": 10}[case]
    assert pod["spec"]["terminationGracePeriodSeconds"] == before + STOP_S


def test_a_worker_is_replaced_as_docs_workers_says(rendered: dict[str, list[Object]]) -> None:
    worker = the(rendered["everything"], "Deployment", "lifecycle-support")
    assert worker["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert worker["spec"]["minReadySeconds"] == 30
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= DRAIN_TIMEOUT


def test_a_worker_can_have_no_probes_and_no_replicas(helm: Helm) -> None:
    objects = helm.render(
        CASES["sqlite"], {"workers": {"support": {"image": "b", "healthPort": None, "replicas": 0}}}
    )
    worker = the(objects, "Deployment", "x-agent-lifecycle-support")
    assert worker["spec"]["replicas"] == 0
    assert not {"ports", "startupProbe", "livenessProbe", "readinessProbe"} & set(
        container(worker["spec"]["template"])
    )


def test_an_image_may_need_another_user_home_and_root(helm: Helm) -> None:
    given = {
        "image": "b",
        "env": {"HOME": "/home/app"},
        "podSecurityContext": {"runAsUser": 1000},
        "securityContext": {"readOnlyRootFilesystem": False},
        "extraVolumes": [{"name": "models", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    objects = helm.render(CASES["sqlite"], {"workers": {"support": given}})
    pod = pods(objects)["x-agent-lifecycle-support"]
    assert env(pod)["HOME"]["value"] == "/home/app"
    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(pod)["securityContext"]["readOnlyRootFilesystem"] is False
    assert container(pod)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert [one["mountPath"] for one in container(pod)["volumeMounts"]] == ["/tmp", "/models"]  # noqa: S108 - in the container


def test_a_release_of_the_service_replaces_no_worker_and_no_database(helm: Helm, tmp_path: Path) -> None:
    later = tmp_path / "chart"
    shutil.copytree(CHART, later)
    (later / "Chart.yaml").write_text((CHART / "Chart.yaml").read_text().replace("0.1.0", "99.0.0"))
    values = (CASES["trial"], {"workers": {"support": {"image": "b"}}})
    before, after = pods(helm.render(*values)), pods(helm.render(*values, chart=later))
    changed = {name for name, pod in before.items() if after[name] != pod}
    assert changed == {"x-agent-lifecycle", "x-agent-lifecycle-test"}
    assert len(before) == 4


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_helm_test_shows_why_the_service_is_not_ready(
    rendered: dict[str, list[Object]], status: int, code: int
) -> None:
    pod = the(rendered["sqlite"], "Pod")
    assert pod["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        # Deleted on success, it would be gone before `helm test --logs` reads its log.
        "helm.sh/hook-delete-policy": "before-hook-creation",
    }
    python, *arguments, url = container(pod)["command"]
    assert (python, url) == ("python", f"http://x-agent-lifecycle.{NAMESPACE}.svc:80/readyz")
    with answering(status, "the body") as address:
        done = subprocess.run(  # noqa: S603 - ours
            [sys.executable, *arguments, address], capture_output=True, text=True, check=False, timeout=30
        )
    assert done.returncode == code
    assert "the body" in done.stdout + done.stderr


# The network


@everywhere
def test_the_open_ports_are_those_of_the_containers(rendered: dict[str, list[Object]], case: str) -> None:
    for policy in of_kind(rendered[case], "NetworkPolicy"):
        pod = pods(rendered[case])[policy["metadata"]["name"]]
        opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert opened == {port["name"] for port in container(pod)["ports"]}
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}


def egress(objects: list[Object], name: str) -> list[tuple[list[int], object]]:
    rules = the(objects, "NetworkPolicy", name)["spec"]["egress"]
    return [([port["port"] for port in rule["ports"]], rule.get("to")) for rule in rules]


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("wss://example.livekit.cloud", 443),
        ("https://livekit.example.com/path", 443),
        ("ws://livekit.livekit.svc:7880", 7880),
        ("http://livekit", 80),
        ("wss://[2001:db8::1]:8443", 8443),
        ("wss://[2001:db8::1]", 443),
    ],
)
def test_the_service_may_reach_livekit(helm: Helm, url: str, port: int) -> None:
    values = {
        "config": {"LIVEKIT_URL": url},
        "networkPolicy": {"enabled": True, "webhooks": {"ports": [8443]}},
    }
    objects = helm.render(CASES["sqlite"], values)
    assert egress(objects, "x-agent-lifecycle") == [([53, 53], None), ([port], None), ([8443], None)]


def test_the_service_may_reach_a_collector_where_it_is_allowed(rendered: dict[str, list[Object]]) -> None:
    monitoring = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    assert ([4318], monitoring) in egress(rendered["everything"], "lifecycle")


def test_the_trial_postgres_is_reached_by_the_service_alone(helm: Helm) -> None:
    objects = helm.render(CASES["trial"], {"networkPolicy": {"enabled": True}})
    (service,) = (
        policy
        for policy in of_kind(objects, "NetworkPolicy")
        if policy["metadata"]["name"] == "x-agent-lifecycle"
    )
    postgres = the(objects, "NetworkPolicy", "x-agent-lifecycle-postgres")
    ((source,),) = (rule["from"] for rule in postgres["spec"]["ingress"])
    assert source["podSelector"] == service["spec"]["podSelector"]
    assert postgres["spec"]["egress"] == []
    ((ports, target),) = (rule for rule in egress(objects, "x-agent-lifecycle") if 5432 in rule[0])
    assert ports == [5432]
    assert target == [{"podSelector": postgres["spec"]["podSelector"]}]


def test_restricted_callers_include_the_workers(rendered: dict[str, list[Object]]) -> None:
    objects = rendered["everything"]
    ((rule,),) = (policy["spec"]["ingress"] for policy in of_kind(objects, "NetworkPolicy"))
    selectors = [peer["podSelector"]["matchLabels"] for peer in rule["from"] if "podSelector" in peer]
    for name in ("lifecycle-support", "lifecycle-phone", "lifecycle-test"):
        labels = pods(objects)[name]["metadata"]["labels"]
        assert any(selector.items() <= labels.items() for selector in selectors), name


# Prometheus, Grafana and KEDA


def test_the_rules_and_the_dashboard_are_those_of_deploy(rendered: dict[str, list[Object]]) -> None:
    objects = rendered["everything"]
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert the(objects, "PrometheusRule")["spec"] == rules
    shown = the(objects, "ConfigMap", "lifecycle-dashboard")["data"]["agent-lifecycle.json"]
    assert json.loads(shown) == json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())


def test_the_rules_know_the_job(rendered: dict[str, list[Object]]) -> None:
    objects = rendered["everything"]
    label = the(objects, "ServiceMonitor")["spec"]["jobLabel"]
    job = the(objects, "Service", "lifecycle")["metadata"]["labels"][label]
    asked = set(re.findall(r'job="([^"]+)"', json.dumps(the(objects, "PrometheusRule")).replace("\\", "")))
    assert asked == {job}


def test_prometheus_has_a_key_where_metrics_are_not_public(rendered: dict[str, list[Object]]) -> None:
    (endpoint,) = the(rendered["everything"], "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"] == {
        "type": "Bearer",
        "credentials": {"name": "agent-lifecycle-scrape", "key": "api-key"},
    }


def test_keda_is_told_what_docs_workers_says(helm: Helm) -> None:
    """Without the chart's ServiceMonitor, the labels of a namespace may not be there."""
    text = (
        (ROOT / "docs/workers.md")
        .read_text()
        .partition("```yaml\napiVersion: keda.sh")[2]
        .partition("```")[0]
    )
    documented = yaml.safe_load(f"apiVersion: keda.sh{text}")
    (trigger,) = documented["spec"]["triggers"]
    scaling = {
        "enabled": True,
        "prometheusAddress": trigger["metadata"]["serverAddress"],
        "maxReplicas": documented["spec"]["maxReplicaCount"],
        "fallbackReplicas": documented["spec"]["fallback"]["replicas"],
    }
    objects = helm.render(CASES["sqlite"], {"workers": {"support": {"image": "a", "autoscaling": scaling}}})
    scaled = the(objects, "ScaledObject")
    assert scaled["spec"] == documented["spec"] | {"scaleTargetRef": {"name": "x-agent-lifecycle-support"}}


def test_keda_counts_the_workers_of_this_release(rendered: dict[str, list[Object]]) -> None:
    (trigger,) = the(rendered["everything"], "ScaledObject")["spec"]["triggers"]
    labels = f'agent="support",namespace="{NAMESPACE}",service="lifecycle"'
    assert trigger["metadata"]["query"] == f"max(agent_lifecycle_workers_desired{{{labels}}})"
