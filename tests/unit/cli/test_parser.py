"""The command line: help, defaults from the environment, and errors."""

import argparse
from collections.abc import Mapping

import pytest

from app.cli.parser import command_line


def serve(_given: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    raise AssertionError("nothing is run here")


@pytest.mark.parametrize(
    "command",
    ["", "serve", "doctor", "status", "drain", "events", "policy", "backup", "restore", "copy-database"],
)
def test_help_explains_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command_line({}, serve).parse_args([*command.split(), "--help"])
    assert stopped.value.code == 0
    assert "exit codes: 0 " in capsys.readouterr().out


def test_without_a_command_it_serves() -> None:
    assert command_line({}, serve).parse_args([]).run is serve


def test_secrets_and_addresses_come_from_the_environment() -> None:
    environ = {"PORT": "9000", "API_KEYS": " first-key-of-the-service, second"}
    given = command_line(environ, serve).parse_args(["status"])
    assert (given.url, given.api_key) == ("http://127.0.0.1:9000", "first-key-of-the-service")


def test_status_without_a_key_explains_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    given = command_line({}, serve).parse_args(["status"])
    assert given.run(given, {}) == 2
    assert "set API_KEYS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("status --api-key key --url example.com", "must be like https://example.com/path"),
        ("doctor --wait soon", "must be a whole number from 1 to 600"),
        ("doctor --skip everything", "invalid choice: 'everything'"),
        ("events --replay-after soon", "must be a whole number from 0"),
        ("backup", "--to"),
        ("restore", "--from"),
        ("copy-database --from mysql://x --to y.db", "must be sqlite:///path/to/file or postgresql://"),
        ("launch", "invalid choice: 'launch'"),
    ],
)
def test_an_invalid_command_line_exits_with_2_and_a_reason(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command_line({}, serve).parse_args(arguments.split())
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
