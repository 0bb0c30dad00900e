"""Terms: what the policy of an agent says about one dispatch. They are stored in its row."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SECOND_US = 1_000_000

#: The weights of an agent's deployments add up to this.
WHOLE = 100.0


class Restart(StrEnum):
    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a dispatch keeps for its whole life, and hands on to its successors."""

    ttl_us: int
    join_timeout_us: int
    #: The TTL as long as nobody has come; None: `ttl_us`.
    unvisited_ttl_us: int | None = None
    #: The TTL once all who were in have called by telephone; None: `ttl_us`.
    phone_ttl_us: int | None = None
    #: How long an agent may stay, also with people in; None: no limit.
    max_session_us: int | None = None
    #: How long before that end the agent is told.
    warn_before_us: int = 0
    restart: Restart = Restart.ON_FAILURE
    #: Whether the agent's session closes when its user leaves.
    closes_with_user: bool = True
    #: The deployments for its room, the first choice first; empty: workers without one. None: it keeps what
    #: its caller or another program has chosen.
    deployments: tuple[str, ...] | None = ()


@dataclass(frozen=True, kw_only=True)
class Share:
    """A deployment of an agent's workers, and its part of the rooms in percent. "": workers without one."""

    deployment: str
    weight: float


def order_for_room(room_name: str, shares: Sequence[Share]) -> tuple[str, ...]:
    """The deployments for a room, its own first and then the others as listed.

    A room keeps its own as long as the weights do. A weight that grows takes rooms from those listed after it
    and gives none away.
    """
    if not shares:
        return ()
    digest = hashlib.blake2b(room_name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    place = int.from_bytes(digest) / 2**64 * WHOLE
    own = shares[-1].deployment
    for share in shares:
        if place < share.weight:
            own = share.deployment
            break
        place -= share.weight
    return (own, *(share.deployment for share in shares if share.deployment != own))
