"""Links: whose leave closes an AgentSession with default options.

Such a session is linked to one participant of the room, and closes for good when that one leaves in certain
ways. Nobody else's leave closes it (livekit-agents, voice/room_io/room_io.py).
"""

import hashlib
from collections.abc import Callable

from app.state.presence import CLOSING_LEAVES
from app.state.views import Company

#: A session starts a moment after its agent has joined, and is linked to any of those who are in by then.
_STARTS_WITHIN_US = 300_000


def has_lost_its_user(company: Company) -> bool:
    """Whether somebody whom the agent's session may be linked to left in a way that closes it."""
    visits = [visit for visit in company.visits if visit.person is not None or visit.joined_at is None]
    if not visits:
        return False
    started_by = (company.agent_joined_at or 0) + _STARTS_WITHIN_US
    # Visits without a time were stored by an earlier version.
    linked = {visit.person for visit in visits if (visit.joined_at or 0) <= started_by}
    if not linked:
        linked = {min(visits, key=lambda visit: visit.joined_at or 0).person}
    return any(
        visit.person in linked and visit.left_at is not None and visit.leave_reason in CLOSING_LEAVES
        for visit in visits
    )


def pseudonyms(secret: str) -> Callable[[str], str]:
    """What is stored in the place of a person's identity; without the secret it cannot be guessed."""
    key = hashlib.sha256(secret.encode()).digest()

    def pseudonym(identity: str) -> str:
        return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), key=key, digest_size=8).hexdigest()

    return pseudonym
