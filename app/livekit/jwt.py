"""What a LiveKit JWT claims, believed once one of our keys has signed it and while it is valid.

Every webhook has such a token, so those of the form that LiveKit writes are verified here, without waste.
Whatever has another form, or is refused here, is PyJWT's to decide: it is asked about nothing that was
found good, and its word is final about everything else.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec

from app.errors import Unauthenticated

#: How far the clocks of LiveKit and of this machine may be apart.
LEEWAY_S = 60


def _encoded(header: bytes) -> bytes:
    return base64.urlsafe_b64encode(header).rstrip(b"=")


#: As LiveKit's server and Go, Python and Rust SDKs write it, and as its JavaScript SDK does.
_HEADERS = frozenset(map(_encoded, (b'{"alg":"HS256","typ":"JWT"}', b'{"alg":"HS256"}')))

_decoder = msgspec.json.Decoder(dict[str, Any])


def verify_jwt(token: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """The claims of a token that one of `keys` (secret by key) has signed and that is valid now.

    Raises:
        Unauthenticated: saying which of these was not so.
    """
    claims = verify_usual(token, keys)
    return verify_any(token, keys) if claims is None else claims


def verify_usual(token: str, keys: Mapping[str, str]) -> dict[str, Any] | None:
    """The claims of a good token of the usual form; None says nothing about any other."""
    try:
        signed, _, signature = token.encode("ascii").rpartition(b".")
        header, _, payload = signed.partition(b".")
        if header not in _HEADERS:
            return None
        claims = _decoder.decode(_decoded(payload))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
    issuer = claims.get("iss")
    secret = keys.get(issuer) if type(issuer) is str else None
    if not secret:
        return None
    digest = hmac.digest(secret.encode(), signed, "sha256")
    if not hmac.compare_digest(_encoded(digest), signature):
        return None
    return claims if _is_valid_now(claims) else None


def verify_any(token: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """As `verify_jwt`, all of it by PyJWT."""
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        secret = keys.get(issuer) if isinstance(issuer, str) else None
        if secret is None:
            raise Unauthenticated("the token is signed with a key that is not ours")
        claims: dict[str, Any] = jwt.decode(
            token, secret, algorithms=["HS256"], leeway=LEEWAY_S, options={"require": ["exp", "iss"]}
        )
    except jwt.ExpiredSignatureError as error:
        raise Unauthenticated("the token has expired") from error
    except (jwt.PyJWTError, ValueError) as error:
        raise Unauthenticated("the token is not a valid LiveKit token") from error
    return claims


def _decoded(segment: bytes) -> bytes:
    """Raises: ValueError: it is not what base64url makes of any bytes."""
    padded = segment.translate(_STANDARD_ALPHABET) + b"=" * (-len(segment) % 4)
    decoded = binascii.a2b_base64(padded, strict_mode=True)
    if _encoded(decoded) != segment:
        raise ValueError("another form")
    return decoded


#: Of base64url. What stands for these in the other alphabet becomes what stands in none.
_STANDARD_ALPHABET = bytes.maketrans(b"-_+/", b"+/  ")


def _is_valid_now(claims: Mapping[str, Any]) -> bool:
    """Whether the claims that say when and for whom are of the usual types, and are met."""
    if "aud" in claims or type(claims.get("sub", "")) is not str or type(claims.get("jti", "")) is not str:
        return False
    begins, issued, ends = claims.get("nbf", 0), claims.get("iat", 0), claims.get("exp")
    if type(begins) is not int or type(issued) is not int or type(ends) is not int:
        return False
    now = datetime.now(UTC).timestamp()
    latest = now + LEEWAY_S
    return begins <= latest and issued <= latest and ends > now - LEEWAY_S
