"""The tables. Times are integer microseconds since 1970: both databases sort and compare them alike.

The tables that every webhook writes to have no rowid in SQLite: their rows are stored in the index of their
key, which saves one page write for each row.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
    text,
)

from app.database import event_tables, worker_tables  # noqa: F401 - whoever has the metadata has all tables
from app.database.schema import metadata, one_of
from app.lifecycle import LIVE_STATES, EndReason, State, Visitors

__all__ = [
    "claims",
    "dispatches",
    "ended_sessions",
    "history",
    "memories",
    "metadata",
    "participants",
    "returns",
    "rooms",
    "usage",
    "webhook_events",
]

_LEFT = text("left_at IS NOT NULL")
_LIVE = text("state IN ({})".format(", ".join(f"'{state}'" for state in LIVE_STATES)))

rooms = Table(
    "rooms",
    metadata,
    Column("name", String(256), primary_key=True),
    # The newest instance seen; events of older instances are ignored.
    Column("sid", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    # Grows with every change of presence, so that a snapshot can be compared with later changes.
    Column("generation", BigInteger, nullable=False),
    # In this instance. Counting its participants for every webhook would slow down with every leave.
    Column("people", Integer, nullable=False),
    # Those of them who call by telephone.
    Column("phones", Integer, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

participants = Table(
    "participants",
    metadata,
    Column("sid", String(64), nullable=False),
    Column("room_name", String(256), nullable=False),
    Column("room_sid", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    # Of agents only: the identity and name of a person are not stored, only a pseudonym.
    Column("identity", String(256)),
    Column("person", String(16)),
    Column("joined_at", BigInteger),
    Column("is_phone", Boolean, nullable=False, server_default=false()),
    Column("is_announced", Boolean, nullable=False, server_default=false()),
    Column("agent_name", String(256)),
    Column("left_at", BigInteger),
    Column("leave_reason", String(64)),
    Column("generation", BigInteger, nullable=False),
    # The room first, because its participants are read together: another index would cost every webhook.
    PrimaryKeyConstraint("room_sid", "sid"),
    Index("ix_participants_left_at", "left_at", sqlite_where=_LEFT, postgresql_where=_LEFT),
    sqlite_with_rowid=False,
)

dispatches = Table(
    "dispatches",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("dispatch_id", String(64), unique=True),
    Column("room_name", String(256), nullable=False),
    Column("room_sid", String(64), nullable=False),
    Column("agent_name", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_activity_at", BigInteger, nullable=False),
    Column("dispatched_at", BigInteger),
    Column("participant_count", Integer, nullable=False),
    Column("ttl_expires_at", BigInteger),
    Column("join_deadline_at", BigInteger),
    Column("retry_at", BigInteger),
    # Derived by lifecycle.Dispatch.due_at from all deadlines; stored for the sweep and the restore.
    Column("due_at", BigInteger),
    Column("agent_identity", String(256)),
    Column("agent_joined_at", BigInteger),
    Column("attempt", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("restarts_since", BigInteger),
    Column("succeeds", String(32)),
    Column("cause", String(32)),
    Column("former_agent", String(256)),
    # What LiveKit is told for the job, see lifecycle.Briefing.
    Column("metadata", Text, nullable=False, server_default=""),
    Column("attributes", Text, nullable=False, server_default=""),
    Column("deployment", Text, nullable=False, server_default=""),
    Column("timezone", String(64)),
    Column("timezone_offset_min", Integer),
    # As JSON, see lifecycle.Terms; null: of a version before there were any.
    Column("terms", Text),
    # A former version has not noted who was in: then the ordinary TTL counts.
    Column("visitors", String(8), nullable=False, server_default=Visitors.OTHERS),
    Column("vacated_at", BigInteger),
    Column("ready_at", BigInteger),
    Column("session_ends_at", BigInteger),
    Column("warn_at", BigInteger),
    Column("accounted_at", BigInteger),
    Column("requested_by", String(16)),
    # See lifecycle.warm; null: its job is in its own room.
    Column("holding_room", String(256)),
    Column("leased_by", String(32)),
    Column("cleanup_failures", Integer, nullable=False),
    Column("end_reason", String(16)),
    Column("ended_at", BigInteger, index=True),
    Column("version", BigInteger, nullable=False),
    one_of("state", State),
    one_of("end_reason", EndReason),
    one_of("visitors", Visitors),
    CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name="ended"),
    Index(
        "ux_dispatches_live",
        "room_name",
        "agent_name",
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    ),
    # With the end, so that a webhook does not read the ended dispatches of its room.
    Index("ix_dispatches_room_name_ended_at", "room_name", "ended_at"),
    Index(
        "ix_dispatches_due_at",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
    Index("ix_dispatches_created_at_id", "created_at", "id"),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    # As in `RoomEvent.event_id`: the time comes first, so that simultaneous events are stored together.
    Column("id", String(64), primary_key=True),
    Column("received_at", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

history = Table(
    "history",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("dispatch_row_id", String(32), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("from_state", String(16)),
    Column("to_state", String(16), nullable=False),
    Column("people", Integer, nullable=False),
)

#: Sessions of the dashboard that were signed out before they expired.
ended_sessions = Table(
    "ended_sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
)

#: How long people stayed away before they came back, for the TTL that is learned. A row for each day and
#: range of times; no names.
returns = Table(
    "returns",
    metadata,
    Column("agent_name", String(256), nullable=False),
    # Days since 1970, in UTC.
    Column("day", Integer, nullable=False),
    # See lifecycle.returns.
    Column("bucket", Integer, nullable=False),
    # Those who found their agent, and those for whom it had ended.
    Column("kept", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    PrimaryKeyConstraint("agent_name", "day", "bucket"),
    sqlite_with_rowid=False,
)

#: The time of each dispatch on each day, for the costs.
usage = Table(
    "usage",
    metadata,
    Column("day", Integer, nullable=False),
    Column("dispatch_row_id", String(32), nullable=False),
    Column("agent_name", String(256), nullable=False),
    Column("room_name", String(256), nullable=False),
    Column("starting_us", BigInteger, nullable=False),
    Column("talked_us", BigInteger, nullable=False),
    Column("idle_us", BigInteger, nullable=False),
    Column("unvisited_us", BigInteger, nullable=False),
    # Of warm agents: these rows have their ids, and no room.
    Column("warm_us", BigInteger, nullable=False, server_default="0"),
    # On its last day.
    Column("end_reason", String(16)),
    PrimaryKeyConstraint("day", "dispatch_row_id"),
    sqlite_with_rowid=False,
)

#: Calls that wait for an agent, and those that may have one: a place counts from here until its dispatch is
#: stored.
claims = Table(
    "claims",
    metadata,
    # That of the dispatch to come.
    Column("id", String(32), primary_key=True),
    Column("agent_name", String(256), nullable=False),
    Column("room_name", String(256), nullable=False),
    # As in `dispatches`.
    Column("requested_by", String(16)),
    Column("asked_at", BigInteger, nullable=False),
    # Null: it still waits.
    Column("granted_at", BigInteger),
    # Whose process is gone does not renew it.
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_claims_agent_name_asked_at", "agent_name", "asked_at"),
)

#: What agents remember of conversations, encrypted: a row from the first load on, so that only the agent
#: that has loaded last can save.
memories = Table(
    "memories",
    metadata,
    # The instance of the room: a later one of that name knows nothing of it.
    Column("room_sid", String(64), nullable=False),
    Column("agent_name", String(256), nullable=False),
    Column("room_name", String(256), nullable=False, index=True),
    # The job that has loaded last.
    Column("job_id", String(64), nullable=False),
    # Of its last save: an older one may still arrive.
    Column("number", BigInteger, nullable=False),
    Column("key_id", String(16)),
    # Null: nothing is saved yet, or it has expired.
    Column("ciphertext", LargeBinary),
    Column("saved_at", BigInteger),
    Column("expires_at", BigInteger, nullable=False, index=True),
    PrimaryKeyConstraint("room_sid", "agent_name"),
)
