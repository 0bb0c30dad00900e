"""The encryption of memories: AES-GCM, with a key for each conversation."""

import secrets
from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.state.memory import Conversation, Sealed

_KEY_BYTES, _KEY_ID_BYTES, _NONCE_BYTES = 32, 8, 12
_PURPOSE = b"agent-lifecycle memory 1\0"
_KEY_ID_PURPOSE = b"agent-lifecycle memory key id 1\0"


class UnreadableMemory(Exception):
    """Its key is not configured any more, or it was changed in the database."""


class MemoryCipher:
    """The first secret encrypts; all decrypt."""

    def __init__(self, secrets_: Sequence[str]) -> None:
        self._secrets = {_derive(one, _KEY_ID_PURPOSE, _KEY_ID_BYTES).hex(): one for one in secrets_}
        self._key_id = next(iter(self._secrets))

    def seal(self, conversation: Conversation, history: bytes) -> Sealed:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        named = _name(conversation)
        ciphertext = nonce + _cipher(self._secrets[self._key_id], named).encrypt(nonce, history, named)
        return Sealed(key_id=self._key_id, ciphertext=ciphertext)

    def open(self, conversation: Conversation, sealed: Sealed) -> bytes:
        """Raises: UnreadableMemory: it was not sealed for this conversation with one of these secrets."""
        secret = self._secrets.get(sealed.key_id)
        if secret is None:
            raise UnreadableMemory("its key is not configured any more")
        nonce, rest = sealed.ciphertext[:_NONCE_BYTES], sealed.ciphertext[_NONCE_BYTES:]
        named = _name(conversation)
        try:
            return _cipher(secret, named).decrypt(nonce, rest, named)
        except (InvalidTag, ValueError) as error:
            raise UnreadableMemory("it was changed in the database") from error


def _name(conversation: Conversation) -> bytes:
    """Unambiguous, whatever the names contain."""
    return msgspec.json.encode([conversation.room_name, conversation.room_sid, conversation.agent_name])


def _cipher(secret: str, named: bytes) -> AESGCM:
    # A key of its own for each conversation: no number of saves makes a nonce repeat under one key.
    return AESGCM(_derive(secret, _PURPOSE + named, _KEY_BYTES))


def _derive(secret: str, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(secret.encode())
