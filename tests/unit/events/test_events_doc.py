"""docs/events.md: its table of types is complete, and its receivers verify what the service sends."""

import base64
import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from app.config.event_endpoints import event_endpoints
from app.events.sender import Sender
from app.lifecycle.announcements import Topic
from app.state.events import EventData, LoggedEvent

DOC = (Path(__file__).parents[3] / "docs" / "events.md").read_text(encoding="utf-8")
NODE = Path(sys.executable).parent / "node"
SECRET, OTHER = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"s", b"o"))


def code(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", DOC, re.DOTALL)
    return str(block)


@pytest.fixture
def message() -> tuple[dict[str, str], bytes]:
    """The headers and the body of an event."""
    example = json.loads(re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)[0])
    event = LoggedEvent(4711, "1f", example["type"], 0, "support-7", json.dumps([*example["data"].values()]))
    sender = Sender(event_endpoints(f"https://receiver.test/#{SECRET}"))
    return dict(sender.headers("https://receiver.test/", event)), event.body


def test_every_type_is_in_the_table_and_no_other() -> None:
    section = DOC.partition("## The events")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(agent\.\w+)` \|", section, re.MULTILINE)) == set(Topic)


def test_the_example_has_every_field() -> None:
    example = json.loads(re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)[0])
    assert tuple(example["data"]) == EventData.__struct_encode_fields__


def test_the_receiver_in_python_verifies(message: tuple[dict[str, str], bytes]) -> None:
    receiver: Any = types.ModuleType("receiver")
    exec(compile(code("python"), "docs/events.md", "exec"), vars(receiver))  # noqa: S102 - our own docs
    headers, body = message
    assert receiver.verified(SECRET, headers, body)["type"] == "agent.ended"
    with pytest.raises(WebhookVerificationError):
        receiver.verified(OTHER, headers, body)


@pytest.mark.parametrize(
    ("secret", "altered", "answer"),
    [
        (SECRET, {}, "agent.ended"),
        (OTHER, {}, "no matching signature"),
        (SECRET, {"webhook-id": "evt_2f"}, "no matching signature"),
        (SECRET, {"webhook-timestamp": "1700000000"}, "too old or too new"),
        (SECRET, {"webhook-signature": "v1,AAAA"}, "no matching signature"),
    ],
)
def test_the_receiver_in_node_verifies(
    message: tuple[dict[str, str], bytes], tmp_path: Path, secret: str, altered: dict[str, str], answer: str
) -> None:
    (tmp_path / "receiver.mjs").write_text(code("js"), encoding="utf-8")
    (tmp_path / "try.mjs").write_text(
        'import { verified } from "./receiver.mjs";\n'
        "const [secret, headers, body] = process.argv.slice(2);\n"
        "try { console.log(verified(secret, JSON.parse(headers), body).type); }\n"
        "catch (error) { console.log(error.message); }\n",
        encoding="utf-8",
    )
    headers, body = message
    command = (NODE, tmp_path / "try.mjs", secret, json.dumps(headers | altered), body.decode())
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - ours
    assert done.stdout.strip() == answer
