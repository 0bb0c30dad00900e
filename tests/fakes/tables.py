"""Tables of states and events, written by hand: for tests of decisions and of what they announce."""

from app.lifecycle import SECOND_US, Policy, Terms

POLICY = Policy(
    default=Terms(ttl_us=300 * SECOND_US, join_timeout_us=15 * SECOND_US), interval_us=60 * SECOND_US
)

STATES = {"C": "creating", "S": "starting", "A": "active", "I": "idle", "U": "unavailable"} | {
    "H": "on_hold",
    "E": "ending",
    "X": "ended",
}


def parse(table: str) -> dict[tuple[str, str], str]:
    """The cells by the event of their row and the letter of their column."""
    head, *rows = (line.split() for line in table.strip().splitlines())
    return {(row[0], column): cell for row in rows for column, cell in zip(head[1:], row[1:], strict=True)}
