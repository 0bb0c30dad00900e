"""The tokens of the token endpoint: accepted by LiveKit, without agents, with long room timeouts."""

from typing import Any

import jwt
import pytest
from google.protobuf.json_format import ParseDict
from livekit import api

from app.config.settings import Keypair
from app.errors import Invalid
from app.lifecycle import Briefing
from app.web.schemas import TokenRequest
from app.web.tokens import IssuedToken, TokenIssuer

SECRET = "a-secret-of-at-least-thirty-two-characters"
KEYPAIR = Keypair(key="devkey", secret=SECRET)
ISSUER = TokenIssuer(KEYPAIR, ("agent", "second"), room_timeout_s=lambda: 360)
RECORDING = TokenIssuer(KEYPAIR, ("agent",), room_timeout_s=lambda: 360, allows_egress=True)
EGRESS: dict[str, Any] = {"room": {"fileOutputs": [{"filepath": "x"}]}}


def claims(issued: IssuedToken) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(issued.token, SECRET, algorithms=["HS256"], issuer="devkey")
    return decoded


def room_config(issued: IssuedToken) -> api.RoomConfiguration:
    return ParseDict(claims(issued)["roomConfig"], api.RoomConfiguration())


def test_a_token_lets_its_holder_join_the_room_under_the_identity() -> None:
    issued = ISSUER.issue(
        TokenRequest(
            room_name="room",
            participant_identity="ann",
            participant_name="Ann",
            participant_metadata="meta",
            participant_attributes={"tier": "gold"},
        )
    )
    assert (issued.room_name, issued.agents) == ("room", {})
    fields = claims(issued)
    assert (fields["sub"], fields["name"], fields["metadata"], fields["attributes"]) == (
        "ann",
        "Ann",
        "meta",
        {"tier": "gold"},
    )
    assert (fields["video"]["roomJoin"], fields["video"]["room"]) == (True, "room")
    assert not fields["video"].get("roomAdmin")
    assert 0 < fields["exp"] - fields["nbf"] <= 3_600


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (
            TokenRequest(room_config={"egress": EGRESS}),
            r"TOKEN_EGRESS=true only - at `\$.room_config.egress`",
        ),
        (TokenRequest(room_config={"egress": {}}), "TOKEN_EGRESS"),
        (
            TokenRequest(participant_attributes={"a": "b", "lk.publish_on_behalf": "agent-AJ_1"}),
            r"TOKEN_LK_ATTRIBUTES=true only - at `\$.participant_attributes`",
        ),
        (TokenRequest(participant_attributes={"lk.": ""}), "TOKEN_LK_ATTRIBUTES"),
    ],
)
def test_what_livekits_own_programs_act_on_is_refused(asked: TokenRequest, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        ISSUER.issue(asked)


def test_it_passes_where_the_operator_says_so() -> None:
    assert room_config(RECORDING.issue(TokenRequest(room_config={"egress": EGRESS}))).HasField("egress")
    with pytest.raises(Invalid):
        RECORDING.issue(TokenRequest(participant_attributes={"lk.a": "b"}))

    naming = TokenIssuer(KEYPAIR, ("agent",), room_timeout_s=lambda: 360, allows_lk_attributes=True)
    assert claims(naming.issue(TokenRequest(participant_attributes={"lk.a": "b"})))["attributes"] == {
        "lk.a": "b"
    }
    with pytest.raises(Invalid):
        naming.issue(TokenRequest(room_config={"egress": EGRESS}))


@pytest.mark.parametrize("name", ["lk", "lkx", "my.lk.name", "LK.a"])
def test_attributes_of_other_names_pass(name: str) -> None:
    assert claims(ISSUER.issue(TokenRequest(participant_attributes={name: "b"})))["attributes"] == {name: "b"}


def test_livekits_own_verifier_accepts_it() -> None:
    issued = ISSUER.issue(TokenRequest(room_name="room"))
    verified = api.TokenVerifier("devkey", SECRET).verify(issued.token)
    assert verified.video is not None
    assert verified.video.room == "room"


def test_a_left_out_name_is_random_and_unique() -> None:
    first, second = ISSUER.issue(TokenRequest()), ISSUER.issue(TokenRequest())
    assert first.room_name != second.room_name
    assert claims(first)["sub"] != claims(second)["sub"]
    assert claims(first)["video"]["room"] == first.room_name


def test_agents_are_taken_out_of_the_token() -> None:
    """LiveKit would dispatch them with every new room, beside those that the service dispatches."""
    request = TokenRequest(
        room_config={"agents": [{"agent_name": "second"}, {"agentName": "agent"}, {"agent_name": "second"}]}
    )
    issued = ISSUER.issue(request)
    assert list(issued.agents) == ["second", "agent"]
    assert len(room_config(issued).agents) == 0


def test_an_agent_without_a_name_is_the_default_one() -> None:
    assert ISSUER.issue(TokenRequest(room_config={"agents": [{}]})).agents == {"agent": None}


def test_what_an_agent_is_to_be_told_is_kept() -> None:
    agents = [
        {"agent_name": "second", "metadata": "m", "attributes": {"tier": "gold"}, "deployment": "blue"},
        {"agent_name": "second", "metadata": "of a second one of the same name"},
        {"agent_name": "agent", "attributes": {"agent-lifecycle.id": "forged"}},
    ]
    assert ISSUER.issue(TokenRequest(room_config={"agents": agents})).agents == {
        "second": Briefing(metadata="m", attributes='{"tier":"gold"}', deployment="blue"),
        "agent": None,
    }


@pytest.mark.parametrize(
    "unknown",
    [
        {"unknown": 1},
        {"agents": [{"agent_name": "agent", "unknown": {}}]},
        {"egress": {"room": {"file_outputs": [{"unknown": 1}]}}},
    ],
)
def test_fields_of_a_newer_protocol_are_ignored(unknown: dict[str, Any]) -> None:
    issued = RECORDING.issue(TokenRequest(room_config={"max_participants": 3, **unknown}))
    assert issued.ignored_fields
    assert room_config(issued).max_participants == 3
    assert not ISSUER.issue(TokenRequest(room_config={"max_participants": 3})).ignored_fields


def test_an_unknown_agent_name_is_invalid() -> None:
    with pytest.raises(Invalid, match="agents"):
        ISSUER.issue(TokenRequest(room_config={"agents": [{"agent_name": "another"}]}))


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({}, (360, 360)),
        ({"empty_timeout": 10, "departure_timeout": 20}, (360, 360)),
        ({"emptyTimeout": 900, "departureTimeout": 1_000}, (900, 1_000)),
    ],
)
def test_a_room_outlives_the_ttl_of_its_agent(asked: dict[str, Any], given: tuple[int, int]) -> None:
    config = room_config(ISSUER.issue(TokenRequest(room_config=asked)))
    assert (config.empty_timeout, config.departure_timeout) == given


def test_the_rest_of_the_room_configuration_is_kept() -> None:
    config = room_config(ISSUER.issue(TokenRequest(room_config={"max_participants": 3, "metadata": "m"})))
    assert (config.max_participants, config.metadata) == (3, "m")


@pytest.mark.parametrize(
    "config",
    [
        {"agents": "agent"},
        {"agents": [7]},
        {"agents": [{"agent_name": 7}]},
        {"empty_timeout": "soon"},
        {"empty_timeout": -1},
        {"empty_timeout": 2**40},
        {"empty_timeout": 1.5},
        {"name": 7},
    ],
)
def test_anything_but_a_room_configuration_is_invalid(config: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="room_config"):
        ISSUER.issue(TokenRequest(room_config=config))


def test_the_depth_of_a_room_configuration_does_no_harm() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"egress": deep}
    assert RECORDING.issue(TokenRequest(room_config=deep)).ignored_fields
    with pytest.raises(Invalid):
        ISSUER.issue(TokenRequest(room_config={"metadata": deep}))
