"""Authentication: participants by their tokens, operators by API keys."""

import base64
import hashlib
import json
import time
from datetime import timedelta
from typing import Any

import jwt
import pytest
from livekit import api

from app.config.settings import Keypair
from app.errors import Forbidden, Unauthenticated
from app.livekit.jwt import LEEWAY_S, verify_jwt
from app.livekit.webhooks import sign
from app.web.auth import Authenticator, Caller

KEY, SECRET = "devkey", "a-secret-of-at-least-thirty-two-characters"
OLD_KEY, OLD_SECRET = "oldkey", "another-secret-of-at-least-thirty-two-ch"
API_KEY = "an-api-key-of-ours"
AUTHENTICATOR = Authenticator({KEY: (SECRET,), OLD_KEY: (OLD_SECRET,)}, (API_KEY, "another-api-key-x"))


def participant_token(
    room: str = "room",
    *,
    key: str = KEY,
    secret: str = SECRET,
    room_join: bool = True,
    ttl: timedelta = timedelta(minutes=5),
) -> str:
    grants = api.VideoGrants(room_join=room_join, room=room)
    return api.AccessToken(key, secret).with_identity("ann").with_grants(grants).with_ttl(ttl).to_jwt()


def signed(claims: dict[str, object], *, secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode({"iss": KEY, "exp": int(time.time()) + 60, **claims}, secret, algorithm=algorithm)


def unsigned(claims: dict[str, object], header: dict[str, object]) -> str:
    def part(content: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(claims)}."


@pytest.mark.parametrize("pair", [(KEY, SECRET), (OLD_KEY, OLD_SECRET)])
def test_a_participants_token_is_for_its_own_room(pair: tuple[str, str]) -> None:
    caller = AUTHENTICATOR.identify(f"Bearer {participant_token(key=pair[0], secret=pair[1])}")
    assert caller == Caller(room_name="room", identity="ann")
    caller.require_room("room")
    with pytest.raises(Forbidden):
        caller.require_room("another")
    with pytest.raises(Forbidden):
        caller.require_operator()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_an_api_key_is_for_every_room(scheme: str) -> None:
    caller = AUTHENTICATOR.identify(f"{scheme} {API_KEY}")
    caller.require_room("any")
    caller.require_operator()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        API_KEY,
        f"Basic {API_KEY}",
        f"Bearer {API_KEY}x",
        f"Bearer {API_KEY[:-1]}",
        "Bearer garbage",
        "Bearer a.b.c",
        "Bearer ..",
        "Bearer \udcff\udcfe",
        "Bearer \u00e9\u00e9.\u00e9.\u00e9",
        "Bearer " + "x" * 100_000,
    ],
)
def test_missing_or_malformed_credentials_are_rejected(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        AUTHENTICATOR.identify(header)


CLAIMS: dict[str, object] = {"video": {"roomJoin": True, "room": "room"}}


@pytest.mark.parametrize(
    "token",
    [
        participant_token(secret=OLD_SECRET),
        participant_token(key="unknown"),
        unsigned({"iss": KEY, "exp": int(time.time()) + 60, **CLAIMS}, {"alg": "none", "typ": "JWT"}),
        unsigned({"iss": KEY, "exp": int(time.time()) + 60, **CLAIMS}, {"alg": "HS256", "typ": "JWT"}),
        signed(CLAIMS, secret=SECRET * 2, algorithm="HS512"),
        signed(CLAIMS, secret=SECRET + SECRET, algorithm="HS256"),
        signed({**CLAIMS, "exp": int(time.time()) - LEEWAY_S - 5}),
        signed({**CLAIMS, "nbf": int(time.time()) + 86_400, "exp": int(time.time()) + 90_000}),
        signed({**CLAIMS, "exp": "soon"}),
        jwt.encode({"iss": KEY, **CLAIMS}, SECRET, algorithm="HS256"),
        jwt.encode({"exp": int(time.time()) + 60, **CLAIMS}, SECRET, algorithm="HS256"),
        unsigned({"iss": 7, **CLAIMS}, {"alg": "HS256", "typ": "JWT"}),
        participant_token()[:-2],
        participant_token() + "x",
    ],
    ids=[
        "another secret",
        "an unknown key",
        "alg none",
        "no signature",
        "HS512",
        "a wrong secret",
        "expired",
        "not valid yet",
        "an expiry that is no time",
        "no expiry",
        "no issuer",
        "an issuer that is no name",
        "cut short",
        "with something added",
    ],
)
def test_a_foreign_or_expired_token_is_rejected(token: str) -> None:
    with pytest.raises(Unauthenticated):
        AUTHENTICATOR.identify(f"Bearer {token}")


def test_hs512_under_the_right_secret_is_not_accepted() -> None:
    """LiveKit signs with HS256; another algorithm is an attack."""
    long_secret = SECRET * 2
    token = signed(CLAIMS, secret=long_secret, algorithm="HS512")
    with pytest.raises(Unauthenticated):
        verify_jwt(token, {KEY: (long_secret,)})


def test_the_clocks_may_be_a_minute_apart() -> None:
    token = signed({**CLAIMS, "sub": "ann", "exp": int(time.time()) - LEEWAY_S + 20})
    assert AUTHENTICATOR.identify(f"Bearer {token}").room_name == "room"


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"video": None},
        {"video": "room"},
        {"video": []},
        {"video": {"room": "room"}},
        {"video": {"roomJoin": False, "room": "room"}},
        {"video": {"roomJoin": "true", "room": "room"}},
        {"video": {"roomJoin": 1, "room": "room"}},
        {"video": {"roomJoin": True}},
        {"video": {"roomJoin": True, "room": ""}},
        {"video": {"roomJoin": True, "room": 7}},
        {"video": {"roomAdmin": True, "room": "room"}},
    ],
)
def test_a_valid_token_without_room_join_is_forbidden(
    claims: dict[str, object],
) -> None:
    with pytest.raises(Forbidden):
        AUTHENTICATOR.identify(f"Bearer {signed(claims)}")


def of(*, video: dict[str, object] | None = None, **claims: object) -> str:
    """The header with a token that grants joining a room, changed by these claims and grants."""
    grants = {"roomJoin": True, "room": "room", **(video or {})}
    given = {"sub": "ann", **claims, "video": grants}
    return f"Bearer {signed({name: value for name, value in given.items() if value is not None})}"


@pytest.mark.parametrize("kind", [None, "", "standard", "sip", "SIP", "connector", "a_kind_of_the_future"])
def test_a_person_of_any_kind_is_a_member(kind: str | None) -> None:
    assert AUTHENTICATOR.identify(of(kind=kind)) == Caller(room_name="room", identity="ann")


@pytest.mark.parametrize("kind", ["agent", "Agent", "egress", "ingress", "bridge"])
def test_a_program_is_no_member(kind: str) -> None:
    with pytest.raises(Forbidden, match=f"kind {kind.lower()}, which is no person"):
        AUTHENTICATOR.identify(of(kind=kind))


@pytest.mark.parametrize("kind", [4, ["agent"], True])
def test_a_kind_that_is_no_text_is_forbidden(kind: object) -> None:
    with pytest.raises(Forbidden, match="kind of participant is not a text"):
        AUTHENTICATOR.identify(of(kind=kind))


@pytest.mark.parametrize("grant", ["agent", "recorder", "hidden"])
def test_a_token_with_a_grant_for_programs_is_forbidden(grant: str) -> None:
    with pytest.raises(Forbidden, match=f"grants {grant}"):
        AUTHENTICATOR.identify(of(video={grant: True}))
    assert AUTHENTICATOR.identify(of(video={grant: False})).identity == "ann"


@pytest.mark.parametrize("identity", [None, ""])
def test_a_token_without_an_identity_is_forbidden(identity: str | None) -> None:
    with pytest.raises(Forbidden, match="no identity of a participant in sub"):
        AUTHENTICATOR.identify(of(sub=identity))


def test_a_participants_token_may_be_limited_to_some_days() -> None:
    limited = Authenticator({KEY: (SECRET,)}, (API_KEY,), member_token_max_days=2)
    day_s, now_s = 86_400, int(time.time())
    assert limited.identify(of(exp=now_s + 2 * day_s)).identity == "ann"
    for too_late in (now_s + 2 * day_s + LEEWAY_S + 60, float(now_s + 3 * day_s), str(2**60)):
        with pytest.raises(Forbidden, match=r"more than 2 days \(MEMBER_TOKEN_MAX_DAYS\)"):
            limited.identify(of(exp=too_late))
    assert AUTHENTICATOR.identify(of(exp=now_s + 36_500 * day_s)).identity == "ann"
    assert limited.identify(f"Bearer {API_KEY}").is_operator


def test_nothing_of_a_token_is_in_the_error() -> None:
    token = participant_token(secret=OLD_SECRET)
    with pytest.raises(Unauthenticated) as error:
        AUTHENTICATOR.identify(f"Bearer {token}")
    assert not any(part in str(error.value) for part in (*token.split("."), SECRET, API_KEY))


def worker_token(body: bytes = b"{}", *, secret: str = SECRET, **grants: Any) -> str:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return signed({"video": {"agent": True} | grants, "sha256": digest}, secret=secret)


def test_a_workers_token_signs_a_body() -> None:
    digest = AUTHENTICATOR.worker_digest(f"Bearer {worker_token(b'a body')}")
    assert digest == hashlib.sha256(b"a body").digest()


@pytest.mark.parametrize(
    "token",
    [
        "",
        API_KEY,
        worker_token(secret=OLD_SECRET),
        signed({"video": {"agent": True}}),
        signed({"video": {"agent": True}, "sha256": 5}),
        signed({"video": {"agent": True}, "sha256": "=="}),
    ],
)
def test_what_signs_no_body_is_no_workers(token: str) -> None:
    for header in (f"Bearer {token}", token, f"Basic {token}"):
        with pytest.raises(Unauthenticated):
            AUTHENTICATOR.worker_digest(header)
    with pytest.raises(Unauthenticated):
        AUTHENTICATOR.worker_digest(None)


@pytest.mark.parametrize(
    "grants",
    [
        # Of an agent in a room, of LiveKit's webhooks, of a person.
        {"roomJoin": True, "room": "room"},
        {"agent": False},
        {"agent": "true"},
        {"agent": None, "roomJoin": True},
    ],
)
def test_only_a_workers_grants_sign(grants: dict[str, Any]) -> None:
    with pytest.raises(Forbidden):
        AUTHENTICATOR.worker_digest(f"Bearer {worker_token(**grants)}")


def test_a_webhooks_signature_is_no_workers() -> None:
    with pytest.raises(Forbidden):
        AUTHENTICATOR.worker_digest("Bearer " + sign(b"{}", Keypair(key=KEY, secret=SECRET)))


def test_a_worker_is_no_caller_of_other_endpoints() -> None:
    with pytest.raises(Forbidden):
        AUTHENTICATOR.identify(f"Bearer {worker_token()}")
