"""The tables of workers: what they report, the orders to empty them, and their warm agents."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from app.database.schema import metadata, one_of
from app.lifecycle.warm import WarmEnd, WarmState

#: The last report of each worker process that has the helper; see state.workers.Report.
workers = Table(
    "workers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("livekit_id", String(64), nullable=False),
    Column("number", BigInteger, nullable=False),
    # As JSON.
    Column("agent_names", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("version", String(128), nullable=False),
    Column("helper", String(64), nullable=False),
    Column("slots", Integer),
    # As JSON: the dispatch and the room of each.
    Column("jobs", Text, nullable=False),
    Column("active", Integer, nullable=False),
    Column("warm", Integer, nullable=False),
    Column("load", Double, nullable=False),
    Column("accepting", Boolean, nullable=False),
    Column("draining", Boolean, nullable=False),
    Column("first_seen_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    # The report after which one was late: one process probes its agents then.
    Column("suspected_number", BigInteger),
    Column("left_at", BigInteger),
    sqlite_with_rowid=False,
)

#: Workers and deployments that are to take no more jobs, until that is cancelled.
drains = Table(
    "drains",
    metadata,
    Column("kind", String(16), nullable=False),
    Column("name", String(256), nullable=False),
    Column("requested_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("kind", "name"),
    sqlite_with_rowid=False,
)

#: Agents that wait in holding rooms until a dispatch claims them, see lifecycle.warm.
warm_agents = Table(
    "warm_agents",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("agent_name", String(256), nullable=False),
    Column("deployment", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("dispatch_id", String(64)),
    Column("agent_identity", String(256)),
    Column("claimed_by", String(32)),
    Column("created_at", BigInteger, nullable=False),
    Column("ready_at", BigInteger),
    Column("claimed_at", BigInteger),
    Column("ended_at", BigInteger, index=True),
    Column("end_reason", String(16)),
    one_of("state", WarmState),
    one_of("end_reason", WarmEnd),
    Index("ix_warm_agents_agent_name_created_at", "agent_name", "created_at"),
)
