"""What is handed to other programs: they accept it, and what it names exists."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.settings import ConfigError, load_config
from devstack.livekit_build import VERSION

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RULES = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text())

_METRIC = re.compile(r"\bagent_lifecycle_\w+")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What the program says; it has to be content."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        hint = "no promtool; it is in Debian's package prometheus"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(hint)
        pytest.skip(hint)
    return found


# The image


def test_the_dockerfile_passes_hadolint() -> None:
    run(Path(sys.executable).parent / "hadolint", "Dockerfile")


def test_every_base_image_is_pinned_by_its_digest() -> None:
    froms = re.findall(r"^FROM (\S+) AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    stages = {stage for _, stage in froms}
    bases = [image for image, _ in froms if image not in stages]
    assert bases
    assert all(re.fullmatch(r"\S+:[\w.-]+@sha256:[0-9a-f]{64}", base) for base in bases)


def test_the_procfile_starts_the_service() -> None:
    assert (ROOT / "Procfile").read_text() == "web: python -m app\n"


# compose.yaml


def test_every_image_is_pinned() -> None:
    stages = {line.split()[-1] for line in (ROOT / "Dockerfile").read_text().splitlines() if "FROM " in line}
    for name, service in SERVICES.items():
        if "build" in service:
            assert service["build"]["target"] in stages
        else:
            assert re.search(r":v?\d+(\.\d+)*(-\w+)?$", service["image"]), name


def test_livekit_is_the_one_that_is_tested() -> None:
    assert SERVICES["livekit"]["image"] == f"livekit/livekit-server:{VERSION}"


def test_every_file_that_is_mounted_exists() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            known = (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
            assert known, f"{name}: {volume}"


def test_whoever_is_waited_for_exists_and_is_checked() -> None:
    for service in SERVICES.values():
        waited = service.get("depends_on", {})
        for name in waited:
            assert name in SERVICES
            condition = waited[name]["condition"] if isinstance(waited, dict) else None
            assert condition is None or "healthcheck" in SERVICES[name]


def test_nothing_listens_beyond_this_machine() -> None:
    """Every key in the file is public."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["service", "worker", "livekit", "prometheus", "grafana"])
def test_it_runs_on_a_read_only_root_without_capabilities(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_the_service_is_configured_without_a_warning() -> None:
    try:
        config = load_config(SERVICES["service"]["environment"])
    except ConfigError as error:
        pytest.fail(str(error))
    assert config.warnings == ()
    assert str(config.port) in SERVICES["service"]["ports"][0]


def test_everybody_has_the_same_keys_and_names() -> None:
    livekit = yaml.safe_load((DEPLOY / "compose/livekit.yaml").read_text())
    service, worker = (SERVICES[name]["environment"] for name in ("service", "worker"))
    for environ in (service, worker):
        assert livekit["keys"] == {environ["LIVEKIT_API_KEY"]: environ["LIVEKIT_API_SECRET"]}
    assert worker["AGENT_NAME"] == service["AGENT_NAME"]
    assert livekit["webhook"]["api_key"] == service["LIVEKIT_API_KEY"]
    assert livekit["webhook"]["urls"] == [f"{service['PUBLIC_URL']}/api/livekit/webhook"]
    password = SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert f":{password}@postgres/" in service["DATABASE_URL"]


def test_the_published_ports_of_livekit_are_its_own() -> None:
    livekit = yaml.safe_load((DEPLOY / "compose/livekit.yaml").read_text())
    own = [livekit["port"], livekit["rtc"]["tcp_port"], livekit["rtc"]["udp_port"]]
    published = [re.sub(r"/udp$", "", port).rpartition(":")[2] for port in SERVICES["livekit"]["ports"]]
    assert list(map(str, own)) == published


# Prometheus and Grafana


def test_prometheus_takes_its_configuration(promtool: str, tmp_path: Path) -> None:
    text = (DEPLOY / "compose/prometheus.yml").read_text()
    inside = "/etc/prometheus/alerts.yml"
    assert f"./deploy/prometheus/alerts.yml:{inside}:ro" in SERVICES["prometheus"]["volumes"]
    (tmp_path / "prometheus.yml").write_text(text.replace(inside, str(DEPLOY / "prometheus/alerts.yml")))
    run(promtool, "check", "config", tmp_path / "prometheus.yml")


def test_each_rule_fires_when_it_should_and_no_other(promtool: str) -> None:
    run(promtool, "test", "rules", "alerts_test.yml", cwd=DEPLOY / "prometheus")


def _rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def test_each_rule_has_its_test_and_says_what_to_do() -> None:
    tests = (DEPLOY / "prometheus/alerts_test.yml").read_text()
    for rule in _rules():
        assert f'{{alertname="{rule["alert"]}"}}' in tests
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def _documented() -> set[str]:
    """Every series that docs/metrics.md promises."""
    rows = re.findall(
        r"^\| `(agent_lifecycle_\w+)` \| (\w+)", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + part for name, kind in rows for part in parts.get(kind, ("",))}


@pytest.mark.parametrize("text", [json.dumps(DASHBOARD), json.dumps(RULES)], ids=["dashboard", "rules"])
def test_every_metric_that_is_asked_for_exists(text: str) -> None:
    asked = set(_METRIC.findall(text))
    assert asked
    assert asked <= _documented()


def test_every_metric_that_exists_is_on_the_dashboard() -> None:
    shown = set(_METRIC.findall(json.dumps(DASHBOARD)))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in _documented()}
    hidden = {
        "agent_lifecycle_transitions_total",
        "agent_lifecycle_alert_posts_total",
        "agent_lifecycle_token_ignored_fields_total",
    }
    unseen = {name for name in families if not any(one.startswith(name) for one in shown)}
    assert unseen <= hidden | {"agent_lifecycle_dispatches_created_total"}


def test_each_expression_of_the_dashboard_can_be_parsed(promtool: str, tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    rules = [
        {
            "record": f"panel:{number}",
            "expr": expression.replace("$__rate_interval", "5m").replace("$job", "agent-lifecycle"),
        }
        for number, expression in enumerate(expressions)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", file)


def test_no_two_panels_lie_on_each_other() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        covered = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not covered & cells, panel["title"]
        assert max(x for x, _ in covered) < 24
        cells |= covered
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


# systemd


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze; it is in Debian's package systemd")
    unit = (DEPLOY / "agent-lifecycle.service").read_text()
    file = tmp_path / "agent-lifecycle.service"
    # It looks whether the program is there.
    file.write_text(unit.replace("/opt/agent-lifecycle/.venv/bin/python", sys.executable))
    run(analyze, "verify", file)
    exposure = run(analyze, "security", "--offline=true", "--no-pager", file)
    assert float(re.findall(r"Overall exposure level for \S+: ([\d.]+)", exposure)[0]) < 2
