"""The fast path of JWT verification: whatever it accepts, PyJWT accepts with the same claims."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit import api

from app.errors import Unauthenticated
from app.livekit.jwt import LEEWAY_S, verify_any, verify_jwt, verify_usual

KEY, SECRET = "devkey", "a-secret-of-at-least-thirty-two-characters"
FORMER_SECRET = "a-former-secret-of-at-least-thirty-two-ch"
KEYS = {KEY: (SECRET, FORMER_SECRET), "oldkey": ("another-secret-of-at-least-thirty-two-ch",)}
USUAL_HEADER = '{"alg":"HS256","typ":"JWT"}'
MINUTES_S = 60


def encoded(data: str | bytes) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token_of(payload: str | bytes, header: str = USUAL_HEADER, secret: str = SECRET) -> str:
    signed = f"{encoded(header)}.{encoded(payload)}"
    return f"{signed}.{encoded(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


def claims(**changes: object) -> dict[str, object]:
    now_s = int(time.time())
    return {"iss": KEY, "nbf": now_s - 10, "exp": now_s + 300, "sha256": "abc"} | changes


def outcome(token: str) -> dict[str, Any] | None:
    try:
        return verify_any(token, KEYS)
    except Unauthenticated:
        return None


def test_livekits_tokens_take_the_fast_path() -> None:
    token = api.AccessToken(KEY, SECRET).with_sha256("abc").with_ttl(timedelta(minutes=5)).to_jwt()
    quick = verify_usual(token, KEYS)
    assert quick == verify_any(token, KEYS)
    assert quick is not None
    assert quick["sha256"] == "abc"


def test_tokens_of_the_javascript_sdk_take_the_fast_path() -> None:
    token = token_of(json.dumps(claims(video={"room": "lobby", "roomJoin": True})), '{"alg":"HS256"}')
    assert verify_usual(token, KEYS) == verify_any(token, KEYS)


@pytest.mark.parametrize("verify", [verify_usual, verify_any, verify_jwt])
def test_each_secret_of_a_key_is_accepted(verify: Callable[..., dict[str, Any] | None]) -> None:
    for secret in KEYS[KEY]:
        content = claims()
        assert verify(token_of(json.dumps(content), secret=secret), KEYS) == content


def test_a_token_of_a_former_secret_is_judged_like_any_other() -> None:
    expired = token_of(json.dumps(claims(exp=int(time.time()) - 3_600)), secret=FORMER_SECRET)
    with pytest.raises(Unauthenticated, match="has expired"):
        verify_jwt(expired, KEYS)
    with pytest.raises(Unauthenticated, match="not a valid"):
        verify_jwt(token_of(json.dumps(claims()), secret="a-secret-of-nobody"), KEYS)


def test_a_token_of_the_main_secret_costs_one_hmac(monkeypatch: pytest.MonkeyPatch) -> None:
    token = token_of(json.dumps(claims()))
    tried = []
    digest = hmac.digest

    def counted(key: bytes, msg: bytes, algorithm: str) -> bytes:
        tried.append(key)
        return digest(key, msg, algorithm)

    monkeypatch.setattr(hmac, "digest", counted)
    assert verify_usual(token, KEYS) is not None
    assert tried == [SECRET.encode()]


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ('{"typ":"JWT","alg":"HS256"}', {}),
        ('{"alg":"HS256","kid":"one"}', {}),
        (USUAL_HEADER, {"exp": float(2**32)}),
        (USUAL_HEADER, {"exp": str(2**32)}),
        (USUAL_HEADER, {"aud": ""}),
        (USUAL_HEADER, {"odd": float("nan")}),
    ],
)
def test_a_valid_token_of_another_form_is_accepted(header: str, changes: dict[str, object]) -> None:
    token = token_of(json.dumps(claims(**changes)), header)
    assert verify_usual(token, KEYS) is None
    assert verify_jwt(token, KEYS)["iss"] == KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"iss": "nobody"},
        {"iss": ["devkey"]},
        {"aud": "another"},
        {"sub": 7},
        {"jti": {}},
        {"exp": True},
        {"exp": float("inf")},
    ],
)
def test_a_token_that_pyjwt_rejects_is_rejected(changes: dict[str, object]) -> None:
    token = token_of(json.dumps(claims(**changes)))
    assert verify_usual(token, KEYS) is None
    with pytest.raises(Unauthenticated):
        verify_jwt(token, KEYS)


@pytest.mark.parametrize(
    ("claim", "shift_s"),
    [("exp", -LEEWAY_S - MINUTES_S), ("nbf", LEEWAY_S + MINUTES_S), ("iat", LEEWAY_S + MINUTES_S)],
)
def test_a_token_that_is_not_valid_now_is_rejected(claim: str, shift_s: int) -> None:
    token = token_of(json.dumps(claims(**{claim: int(time.time()) + shift_s})))
    assert verify_usual(token, KEYS) is None
    with pytest.raises(Unauthenticated):
        verify_jwt(token, KEYS)


@pytest.mark.parametrize("header", ['{"alg":"none"}', '{"alg":"HS512","typ":"JWT"}', '{"alg":"RS256"}'])
def test_another_algorithm_is_rejected(header: str) -> None:
    with pytest.raises(Unauthenticated):
        verify_jwt(token_of(json.dumps(claims()), header), KEYS)


TIMES = st.one_of(
    st.integers(-1000, 1000).map(lambda shift: int(time.time()) + shift),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CLAIMS = st.fixed_dictionaries(
    {"iss": st.sampled_from([KEY, "oldkey", "nobody", 1, None]), "exp": TIMES},
    optional={
        "nbf": TIMES,
        "iat": TIMES,
        "aud": JSON,
        "sub": JSON,
        "jti": JSON,
        "sha256": JSON,
        "video": JSON,
    },
)
HEADERS = st.sampled_from(
    [USUAL_HEADER, '{"alg":"HS256"}', '{"alg":"none"}', '{"alg": "HS256"}', '{"alg":"HS256","crit":["x"]}']
)


@settings(max_examples=500)
@given(
    content=CLAIMS,
    header=HEADERS,
    secret=st.sampled_from([secret for secrets in KEYS.values() for secret in secrets] + ["wrong"]),
    dump=st.sampled_from([json.dumps, partial(json.dumps, ensure_ascii=False)]),
)
def test_the_fast_path_agrees_with_pyjwt_on_any_claims(
    content: dict[str, Any], header: str, secret: str, dump: Callable[[object], str]
) -> None:
    token = token_of(dump(content).encode("utf-8", "surrogatepass"), header, secret)
    quick = verify_usual(token, KEYS)
    assert quick is None or quick == outcome(token)


#: Valid for as long as the whole suite may take.
GOOD = token_of(json.dumps(claims(exp=int(time.time()) + 86_400)))
EDITS = st.lists(
    st.tuples(
        st.integers(0, len(GOOD)), st.integers(0, 3), st.text(alphabet=".=-_+/ aZ9\u00e9\0", max_size=3)
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=500)
@given(edits=EDITS)
def test_the_fast_path_agrees_with_pyjwt_on_altered_tokens(
    edits: list[tuple[int, int, str]],
) -> None:
    token = GOOD
    for at, removed, inserted in edits:
        token = token[:at] + inserted + token[at + removed :]
    quick = verify_usual(token, KEYS)
    assert quick is None or quick == outcome(token)
    assert (quick is not None) == (token == GOOD)


@settings(max_examples=300)
@given(payload=st.binary(max_size=60) | st.sampled_from([b"[" * 50_000, b"{}", b"[]", b'"', b"\xff"]))
def test_payloads_that_are_not_claims_are_rejected(payload: bytes) -> None:
    assert verify_usual(token_of(payload), KEYS) is None
