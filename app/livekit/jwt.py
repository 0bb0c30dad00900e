"""Verification of LiveKit's JWTs.

Every webhook has such a token, so a fast path verifies tokens of the form that LiveKit writes. PyJWT decides
about every token of another form and every token that the fast path rejects.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jwt
import msgspec

from app.clock import wall_time_s
from app.config.settings import Secrets
from app.errors import Unauthenticated

#: How far the clocks of LiveKit and this machine may differ.
LEEWAY_S = 60


def _encoded(header: bytes) -> bytes:
    return base64.urlsafe_b64encode(header).rstrip(b"=")


#: The header of LiveKit's server and its Go, Python and Rust SDKs, and that of its JavaScript SDK.
_HEADERS = frozenset(map(_encoded, (b'{"alg":"HS256","typ":"JWT"}', b'{"alg":"HS256"}')))

_decoder = msgspec.json.Decoder(dict[str, Any])


def verify_jwt(token: str, keys: Secrets) -> dict[str, Any]:
    """Return the claims of a valid token signed with a secret of its key.

    Raises:
        Unauthenticated: the signature is wrong, or the token is not valid now.
    """
    claims = verify_usual(token, keys)
    return verify_any(token, keys) if claims is None else claims


def verify_usual(token: str, keys: Secrets) -> dict[str, Any] | None:
    """Return the claims of a valid token of the usual form; None if PyJWT has to decide."""
    try:
        signed, _, signature = token.encode("ascii").rpartition(b".")
        header, _, payload = signed.partition(b".")
        if header not in _HEADERS:
            return None
        claims = _decoder.decode(_decoded(payload))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
    issuer = claims.get("iss")
    secrets = keys.get(issuer, ()) if type(issuer) is str else ()
    for secret in secrets:
        if _is_signature(signature, signed, secret):
            return claims if _is_valid_now(claims) else None
    return None


def verify_any(token: str, keys: Secrets) -> dict[str, Any]:
    """Do the same as `verify_jwt`, with PyJWT alone."""
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        secrets = keys.get(issuer) if isinstance(issuer, str) else None
        if secrets is None:
            raise Unauthenticated("Unknown API key in the token's issuer")
        for secret in secrets:
            # The signature is checked before anything else: any other fault is that of a token signed so.
            with suppress(jwt.InvalidSignatureError):
                return _decode(token, secret)
    except jwt.ExpiredSignatureError as error:
        raise Unauthenticated("The token has expired") from error
    except (jwt.PyJWTError, ValueError, OverflowError) as error:
        raise Unauthenticated("The token is not a valid LiveKit token") from error
    raise Unauthenticated("The token is not a valid LiveKit token")


def _decode(token: str, secret: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token, secret, algorithms=["HS256"], leeway=LEEWAY_S, options={"require": ["exp", "iss"]}
    )
    return claims


def _is_signature(signature: bytes, signed: bytes, secret: str) -> bool:
    digest = hmac.digest(secret.encode(), signed, "sha256")
    return hmac.compare_digest(_encoded(digest), signature)


def _decoded(segment: bytes) -> bytes:
    """Raises: ValueError: the segment is not canonical base64url."""
    padded = segment.translate(_STANDARD_ALPHABET) + b"=" * (-len(segment) % 4)
    decoded = binascii.a2b_base64(padded, strict_mode=True)
    if _encoded(decoded) != segment:
        raise ValueError("not canonical")
    return decoded


#: From base64url. The two characters that only standard base64 has become invalid.
_STANDARD_ALPHABET = bytes.maketrans(b"-_+/", b"+/  ")


def _is_valid_now(claims: Mapping[str, Any]) -> bool:
    """Whether the time and audience claims have the usual types and hold now."""
    if "aud" in claims or type(claims.get("sub", "")) is not str or type(claims.get("jti", "")) is not str:
        return False
    begins, issued, ends = claims.get("nbf", 0), claims.get("iat", 0), claims.get("exp")
    if type(begins) is not int or type(issued) is not int or type(ends) is not int:
        return False
    now = wall_time_s()
    latest = now + LEEWAY_S
    return begins <= latest and issued <= latest and ends > now - LEEWAY_S
