"""The signature of what a browser keeps: HMAC-SHA256, with a key of its own for each purpose."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from itsdangerous import BadData, URLSafeSerializer


def sign(value: object, secret: bytes, purpose: str) -> str:
    return _serializer([secret], purpose).dumps(value)


def read_signed(text: str, secrets: Sequence[bytes], purpose: str) -> Any:
    """The value that one of the secrets has signed for this purpose; None for any other text."""
    try:
        # A header's bytes that are no UTF-8 are surrogates here.
        return _serializer(secrets, purpose).loads(text.encode(errors="replace"))
    except BadData:
        return None


def _serializer(secrets: Sequence[bytes], purpose: str) -> URLSafeSerializer:
    return URLSafeSerializer(
        secrets, salt=purpose, signer_kwargs={"key_derivation": "hmac", "digest_method": sha256}
    )
