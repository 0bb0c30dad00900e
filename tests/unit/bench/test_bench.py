"""What the bench is made of: a corpus that is what LiveKit sends, and goals that are judged right."""

import json
from collections import defaultdict
from pathlib import Path

import pytest
from livekit import api

from app.livekit.webhooks import translate
from app.state.changes import RoomEventKind
from bench.contenders import KEYPAIR
from bench.corpus import bodies, write_corpus
from bench.figures import Figure, Unit, render


def test_the_corpus_is_signed_as_livekits_sdk_expects(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    write_corpus(corpus, 20, 5, KEYPAIR)
    receiver = api.WebhookReceiver(api.TokenVerifier(KEYPAIR.key, KEYPAIR.secret))
    received = []
    for line in corpus.read_text().splitlines():
        authorization, body = line.split("\t", 1)
        received.append(receiver.receive(body, authorization).id)
    assert len(set(received)) == 20


def test_people_of_the_corpus_leave_only_where_they_are() -> None:
    present: defaultdict[str, set[str]] = defaultdict(set)
    for body in bodies(2_000, 20):
        event = translate(body.encode()).event
        assert event is not None
        assert event.participant is not None
        if event.kind is RoomEventKind.JOINED:
            assert event.participant.sid not in present[event.room_name]
            present[event.room_name].add(event.participant.sid)
        else:
            present[event.room_name].remove(event.participant.sid)
        assert json.loads(body)["room"]["numParticipants"] == len(present[event.room_name])


def figure(**changes: float | str) -> Figure:
    fields: dict[str, object] = {"part": "some", "what": "figure", "value": 30.0, "unit": Unit.MS, **changes}
    return Figure(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({}, None),
        ({"at_most": 30.0}, True),
        ({"at_most": 29.0}, False),
        ({"at_least": 30.0}, True),
        ({"at_least": 31.0}, False),
        # With something to compare it with, the goal is about the ratio.
        ({"at_least": 2.0, "reference": "other", "reference_value": 15.0}, True),
        ({"at_least": 2.0, "reference": "other", "reference_value": 16.0}, False),
        ({"at_most": 2.0, "reference": "other", "reference_value": 14.0}, False),
        ({"reference": "other", "reference_value": 14.0}, None),
    ],
)
def test_a_goal_is_met_or_not(changes: dict[str, float | str], met: bool | None) -> None:  # noqa: FBT001 - of a table
    assert figure(**changes).is_met is met


def test_the_table_says_what_was_missed() -> None:
    table = render([figure(at_most=29.0), figure(at_most=2.0, reference="other", reference_value=60.0)])
    assert [line.split()[-1] for line in table.splitlines()[2:]] == ["NO", "yes"]
