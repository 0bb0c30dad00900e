"""The encryption of memories: what opens with which secrets, and what does not."""

from dataclasses import replace

import pytest

from app.control.memory_cipher import MemoryCipher, UnreadableMemory
from app.state.memory import Conversation, Sealed

OLD, NEW = "the-old-secret-of-at-least-32-characters", "the-new-secret-of-at-least-32-characters"
HISTORY = b'{"items":["what was said"]}'
CONVERSATION = Conversation(room_name="room", room_sid="RM_1", agent_name="agent")


def test_what_is_sealed_opens_with_the_same_secret() -> None:
    sealed = MemoryCipher([OLD]).seal(CONVERSATION, HISTORY)
    assert MemoryCipher([OLD]).open(CONVERSATION, sealed) == HISTORY
    assert b"said" not in sealed.ciphertext
    assert "said" not in repr(sealed)
    assert OLD not in repr(sealed)


def test_the_first_secret_seals_and_all_open() -> None:
    both = MemoryCipher([NEW, OLD])
    assert both.open(CONVERSATION, MemoryCipher([OLD]).seal(CONVERSATION, HISTORY)) == HISTORY
    assert MemoryCipher([NEW]).open(CONVERSATION, both.seal(CONVERSATION, HISTORY)) == HISTORY
    with pytest.raises(UnreadableMemory, match="not configured any more"):
        MemoryCipher([OLD]).open(CONVERSATION, both.seal(CONVERSATION, HISTORY))


def test_a_nonce_is_used_once() -> None:
    cipher = MemoryCipher([OLD])
    assert len({cipher.seal(CONVERSATION, HISTORY).ciphertext[:12] for _ in range(100)}) == 100


@pytest.mark.parametrize("change", [{"room_name": "other"}, {"room_sid": "RM_2"}, {"agent_name": "other"}])
def test_what_belongs_to_another_conversation_does_not_open(change: dict[str, str]) -> None:
    cipher = MemoryCipher([OLD])
    sealed = cipher.seal(CONVERSATION, HISTORY)
    with pytest.raises(UnreadableMemory, match="changed in the database"):
        cipher.open(replace(CONVERSATION, **change), sealed)


def test_names_that_read_alike_together_are_apart() -> None:
    cipher = MemoryCipher([OLD])
    sealed = cipher.seal(Conversation(room_name="ab", room_sid="c", agent_name="d"), HISTORY)
    with pytest.raises(UnreadableMemory):
        cipher.open(Conversation(room_name="a", room_sid="bc", agent_name="d"), sealed)


@pytest.mark.parametrize("place", [0, 11, 12, 20, -1])
def test_a_changed_bit_is_noticed(place: int) -> None:
    cipher = MemoryCipher([OLD])
    sealed = cipher.seal(CONVERSATION, HISTORY)
    changed = bytearray(sealed.ciphertext)
    changed[place] ^= 1
    with pytest.raises(UnreadableMemory):
        cipher.open(CONVERSATION, Sealed(key_id=sealed.key_id, ciphertext=bytes(changed)))


@pytest.mark.parametrize("length", [0, 5, 12, 20])
def test_a_piece_is_noticed(length: int) -> None:
    cipher = MemoryCipher([OLD])
    sealed = cipher.seal(CONVERSATION, HISTORY)
    with pytest.raises(UnreadableMemory):
        cipher.open(CONVERSATION, replace(sealed, ciphertext=sealed.ciphertext[:length]))


def test_the_id_of_a_key_says_nothing_about_it() -> None:
    sealed = MemoryCipher([OLD]).seal(CONVERSATION, HISTORY)
    assert len(sealed.key_id) == 16
    assert sealed.key_id not in OLD
