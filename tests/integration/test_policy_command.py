"""`python -m app policy` and the doctor: the effective policy of each agent, and where it comes from."""

import json
from pathlib import Path

import pytest

from app.cli.doctor import checks
from app.cli.doctor.findings import Finding, Verdict
from app.cli.parser import command_line
from app.clock import SteadyClock
from integration.harness import KEYPAIR

FILE = """\
running = "update"
[defaults]
unvisited_ttl_s = 60
[agents.support]
ttl_s = "auto"
ttl_max_s = 90
[agents.caller]
phone_ttl_s = 0
deployment = [{name = "v2", weight = 10}, {name = ""}]
"""


def environ(folder: Path, text: str = FILE) -> dict[str, str]:
    file = folder / "agents.toml"
    file.write_text(text, encoding="utf-8")
    return {
        "LIVEKIT_URL": "ws://127.0.0.1:1",
        "LIVEKIT_API_KEY": KEYPAIR.key,
        "LIVEKIT_API_SECRET": KEYPAIR.secret,
        "AGENT_NAME": "support,caller",
        "AGENT_TTL_SECONDS": "120",
        "AGENTS_FILE": str(file),
    }


def run(given: dict[str, str], *arguments: str) -> int:
    parsed = command_line(given, lambda *_: 0).parse_args(["policy", *arguments])
    exit_code: int = parsed.run(parsed, given)
    return exit_code


def test_it_prints_every_value_with_its_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(environ(tmp_path)) == 0

    support, caller, reload = capsys.readouterr().out.split("\n\n")
    rows = {row.split()[0]: " ".join(row.split()[1:]) for row in support.splitlines()[1:]}
    assert rows["ttl_s"] == "auto (90 until enough is learned) agents.toml:5"
    assert rows["ttl_max_s"] == "90 agents.toml:6"
    assert rows["unvisited_ttl_s"] == "60 agents.toml:3"
    assert rows["phone_ttl_s"] == "the TTL default"
    rows = {row.split()[0]: " ".join(row.split()[1:]) for row in caller.splitlines()[1:]}
    assert rows["ttl_s"] == "120 AGENT_TTL_SECONDS"
    assert "ttl_max_s" not in rows
    assert rows["deployment"] == "v2 10 %, (without) 90 % agents.toml:9"
    assert 'running = "update"' in reload


def test_as_json_it_has_the_same_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(environ(tmp_path), "--json") == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["running"], told["untilLearned"]) == ("update", {"support": 90})
    assert told["agents"]["support"]["ttl_s"] == {"value": "auto", "from": "agents.toml:5"}
    assert told["agents"]["caller"]["phone_ttl_s"] == {"value": 0, "from": "agents.toml:8"}
    assert told["agents"]["caller"]["deployment"]["value"] == [
        {"name": "v2", "weight": 10},
        {"name": "", "weight": 90},
    ]
    assert told["agents"]["caller"]["max_agents"] == {"value": None, "from": "default"}


def test_problems_exit_with_2_as_the_service_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(environ(tmp_path, "[agents.suport]\nttl = 5\n")) == 2

    told = capsys.readouterr()
    assert told.out == ""
    assert "agents.toml:1: [agents.suport] is not one of AGENT_NAME; did you mean support?" in told.err
    assert "agents.toml:2: [agents.suport] ttl is not a key; did you mean ttl_s?" in told.err


async def examine(given: dict[str, str]) -> list[Finding]:
    skip = [name for name in checks.NAMES if name != "environment"]
    found = checks.examine(given, SteadyClock(), skip=skip, wait_s=1)
    return [finding async for check, finding in found if check == "environment"]


async def test_the_doctor_says_what_each_agent_has(tmp_path: Path) -> None:
    told = [finding.message for finding in await examine(environ(tmp_path))]
    assert (
        "policy of support: ttl_s auto (90 until enough is learned) from agents.toml:5,"
        " ttl_max_s 90 from agents.toml:6, unvisited_ttl_s 60 from agents.toml:3" in told
    )


async def test_the_doctor_has_a_fault_for_each_problem_of_the_file(tmp_path: Path) -> None:
    found = await examine(environ(tmp_path, "[agents.suport]\nttl = 5\n"))
    assert [finding.verdict for finding in found] == [Verdict.FAULT] * 2
    assert all(finding.fix and "export" not in finding.fix for finding in found)
