"""The SQL of a batch of changes: plain text, built once.

It runs for every webhook; docs/ingest.md gives the cost of SQLAlchemy's expressions here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Integer, Table

from app.database.event_tables import events
from app.database.tables import dispatches, history, participants, returns, rooms, usage, webhook_events

Rows = Sequence[Sequence[Any]]


_NEWEST_ENDED = """SELECT id FROM (
    SELECT id, row_number() OVER (
        PARTITION BY room_name, agent_name ORDER BY created_at DESC, ended_at DESC
    ) AS place
    FROM dispatches WHERE room_name {among} AND ended_at IS NOT NULL
) AS ended WHERE place = 1"""


class Statements(ABC):
    """The statements in the dialect of one database."""

    #: A condition: the value is in the one parameter, a list of strings.
    among: str
    #: The same for a row of two values and a list of pairs of strings.
    among_pairs: str
    #: The clause that locks the rows that are read.
    lock_rows = ""

    def __init__(self) -> None:
        in_room = f"room_sid IN (SELECT sid FROM rooms WHERE name {self.among})"  # noqa: S608 - our names
        self.rooms = _select(rooms, f"name {self.among} ORDER BY name{self.lock_rows}")
        self.open_dispatches = _select(
            dispatches, f"room_name {self.among} AND ended_at IS NULL{self.lock_rows}"
        )
        #: The newest that has ended, of each agent name in these rooms.
        self.former_dispatches = _select(dispatches, f"id IN ({_NEWEST_ENDED.format(among=self.among)})")
        #: By pairs of room sid and participant sid.
        self.participants = _select(participants, f"(room_sid, sid) {self.among_pairs}")
        self.present = _select(participants, f"{in_room} AND left_at IS NULL")
        #: Locked, as another replica deletes those that have expired.
        self.claims = f"SELECT id FROM claims WHERE id {self.among}{self.lock_rows}"  # noqa: S608 - our names
        self.drop_claims = f"DELETE FROM claims WHERE id = {self._place(1)}"  # noqa: S608 - our names
        self.forget_rooms = f"DELETE FROM memories WHERE room_sid = {self._place(1)}"  # noqa: S608 - our names
        #: Each row: the room's sid and the agent name.
        self.forget_conversations = f"{self.forget_rooms} AND agent_name = {self._place(2)}"
        self.webhook_events = _select(webhook_events, f"id {self.among}")
        self.put_rooms = self._insert(rooms, rooms.columns) + _or_update(rooms)
        self.put_participants = self._insert(participants, participants.columns) + _or_update(participants)
        self.add_webhook_events = self._insert(webhook_events, webhook_events.columns)
        self.add_dispatches = self._insert(dispatches, dispatches.columns)
        #: Each row: all columns but the key, then the key. The unique index needs this order of rows.
        self.change_dispatches = self._update(dispatches)
        self.add_returns = self._insert(returns, returns.columns) + _or_add(returns)
        self.add_usage = self._insert(usage, usage.columns) + _or_add(usage)
        #: Each row without its id.
        self.add_history = self._insert(history, _others(history))
        #: Each row without its id and its position.
        self.add_events = self._insert(events, _others(events)[:-1])

    @abstractmethod
    def lock(self, connection: Connection, names: list[str]) -> None:
        """Lock the rooms of these names against other transactions."""

    @abstractmethod
    def find(self, connection: Connection, statement: str, wanted: list[str]) -> Rows: ...

    @abstractmethod
    def find_by_pairs(
        self, connection: Connection, statement: str, wanted: list[tuple[str, str]]
    ) -> Rows: ...

    @abstractmethod
    def put(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None: ...

    @abstractmethod
    def _place(self, number: int) -> str:
        """The placeholder of the n-th parameter."""

    def _update(self, table: Table) -> str:
        names = _names(_others(table))
        values = ", ".join(f"{name} = {self._place(number)}" for number, name in enumerate(names, 1))
        return f"UPDATE {table.name} SET {values} WHERE id = {self._place(len(names) + 1)}"  # noqa: S608 - our names

    def _insert(self, table: Table, columns: Iterable[Column[Any]]) -> str:
        names = _names(columns)
        places = ", ".join(self._place(number) for number, _ in enumerate(names, 1))
        return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places})"  # noqa: S608 - our names


class SqliteStatements(Statements):
    """Runs on sqlite3's own cursors, whose errors need no translation."""

    among = "IN (SELECT value FROM json_each(?))"
    among_pairs = "IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"

    def lock(self, connection: Connection, names: list[str]) -> None:
        """Nothing to do: SQLite has one writer at a time."""

    def find(self, connection: Connection, statement: str, wanted: Sequence[object]) -> Rows:
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(statement, (msgspec.json.encode(wanted).decode(),))
            return cursor.fetchall()

    def find_by_pairs(self, connection: Connection, statement: str, wanted: list[tuple[str, str]]) -> Rows:
        return self.find(connection, statement, wanted)

    def put(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with closing(connection.connection.cursor()) as cursor:
            cursor.executemany(statement, rows)

    def _place(self, number: int) -> str:
        return f"?{number}"


class PostgresStatements(Statements):
    """Runs on SQLAlchemy, which knows which errors mean a lost connection."""

    among = "= ANY(CAST($1 AS text[]))"
    among_pairs = "IN (SELECT * FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])))"
    lock_rows = " FOR UPDATE"
    #: By name: a room that no replica has seen yet has no row to lock. In one order: two replicas never
    #: deadlock.
    _LOCK = (
        "SELECT pg_advisory_xact_lock(key) FROM (SELECT DISTINCT hashtextextended(name, 1) AS key"
        " FROM unnest(CAST($1 AS text[])) AS name ORDER BY key) AS keys"
    )

    def lock(self, connection: Connection, names: list[str]) -> None:
        self.find(connection, self._LOCK, names)

    def find(self, connection: Connection, statement: str, wanted: list[str]) -> Rows:
        return connection.exec_driver_sql(statement, (wanted,)).all()

    def find_by_pairs(self, connection: Connection, statement: str, wanted: list[tuple[str, str]]) -> Rows:
        firsts, seconds = zip(*wanted, strict=True)
        return connection.exec_driver_sql(statement, (list(firsts), list(seconds))).all()

    def put(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        connection.exec_driver_sql(statement, list(rows))

    def _place(self, number: int) -> str:
        return f"${number}"


def batch_sql(connection: Connection) -> Statements:
    return _KINDS[connection.dialect.name]


def _select(table: Table, condition: str) -> str:
    return f"SELECT {', '.join(_names(table.columns))} FROM {table.name} WHERE {condition}"  # noqa: S608 - our names


def _or_update(table: Table) -> str:
    key = ", ".join(_names(table.primary_key))
    values = ", ".join(f"{name} = excluded.{name}" for name in _names(_others(table)))
    return f" ON CONFLICT ({key}) DO UPDATE SET {values}"


def _or_add(table: Table) -> str:
    """Numbers are added to those of the row that is there; names and texts stay, unless there were none."""
    key = ", ".join(_names(table.primary_key))
    values = ", ".join(
        f"{column.name} = {table.name}.{column.name} + excluded.{column.name}"
        if isinstance(column.type, Integer)
        else f"{column.name} = COALESCE({table.name}.{column.name}, excluded.{column.name})"
        for column in _others(table)
    )
    return f" ON CONFLICT ({key}) DO UPDATE SET {values}"


def _others(table: Table) -> list[Column[Any]]:
    return [column for column in table.columns if not column.primary_key]


def _names(columns: Iterable[Column[Any]]) -> list[str]:
    return [column.name for column in columns]


_KINDS: dict[str, Statements] = {"sqlite": SqliteStatements(), "postgresql": PostgresStatements()}
