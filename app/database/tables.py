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
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
    text,
)

from app.lifecycle import LIVE_STATES, EndReason, State

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, values: type[State] | type[EndReason]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


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
    # Derived from the three above by lifecycle.Dispatch.due_at; stored for the sweep and the restore.
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
    Column("leased_by", String(32)),
    Column("cleanup_failures", Integer, nullable=False),
    Column("end_reason", String(16)),
    Column("ended_at", BigInteger, index=True),
    Column("version", BigInteger, nullable=False),
    _one_of("state", State),
    _one_of("end_reason", EndReason),
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
