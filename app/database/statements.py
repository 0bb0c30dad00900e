"""The SQL of a batch of changes: plain text, built once.

It runs for every webhook; docs/ingest.md gives the cost of SQLAlchemy's expressions here.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Integer, Table

from app.database.event_tables import events
from app.database.tables import dispatches, history, participants, returns, rooms, usage, webhook_events

Rows = Sequence[Sequence[Any]]
#: A statement, and the strings or pairs of strings that it looks for.
Question = tuple[str, Sequence[Any]]
#: A statement, and the rows that it stores.
Put = tuple[str, Sequence[tuple[Any, ...]]]

_PLACE = re.compile(r"\$(\d+)")
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
        self.put_rooms = self._insert_all(rooms, rooms.columns) + _or_update(rooms)
        self.put_participants = self._insert_all(participants, participants.columns) + _or_update(
            participants
        )
        self.add_webhook_events = self._insert_all(webhook_events, webhook_events.columns)
        self.add_dispatches = self._insert_all(dispatches, dispatches.columns)
        #: Each row: all columns but the key, then the key. The unique index needs this order of rows.
        self.change_dispatches = self._update(dispatches)
        self.add_returns = self._insert_all(returns, returns.columns) + _or_add(returns)
        #: Several rows may have the same key.
        self.add_usage = self._insert(usage, usage.columns) + _or_add(usage)
        #: Each row without its id.
        self.add_history = self._insert_all(history, _others(history))
        #: Each row without its id and its position.
        self.add_events = self._insert_all(events, _others(events)[:-1])

    @abstractmethod
    def lock(self, connection: Connection, names: list[str]) -> None:
        """Lock the rooms of these names against other transactions."""

    @abstractmethod
    def find_all(self, connection: Connection, questions: Sequence[Question]) -> Sequence[Rows]:
        """The rows for each question; all are of one snapshot."""

    @abstractmethod
    def put(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run the statement for one row after the other."""

    @abstractmethod
    def put_all(self, connection: Connection, puts: Sequence[Put]) -> None:
        """Store rows by statements that insert, each into another table."""

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

    @abstractmethod
    def _insert_all(self, table: Table, columns: Iterable[Column[Any]]) -> str:
        """For `put_all`."""


class SqliteStatements(Statements):
    """Runs on sqlite3's own cursors, whose errors need no translation."""

    among = "IN (SELECT value FROM json_each(?))"
    among_pairs = "IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"

    def lock(self, connection: Connection, names: list[str]) -> None:
        """Nothing to do: SQLite has one writer at a time."""

    def find_all(self, connection: Connection, questions: Sequence[Question]) -> Sequence[Rows]:
        with closing(connection.connection.cursor()) as cursor:
            return [
                cursor.execute(statement, (msgspec.json.encode(wanted).decode(),)).fetchall()
                for statement, wanted in questions
            ]

    def put(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self.put_all(connection, [(statement, rows)])

    def put_all(self, connection: Connection, puts: Sequence[Put]) -> None:
        with closing(connection.connection.cursor()) as cursor:
            for statement, rows in puts:
                cursor.executemany(statement, rows)

    def _insert_all(self, table: Table, columns: Iterable[Column[Any]]) -> str:
        return self._insert(table, columns)

    def _place(self, number: int) -> str:
        return f"?{number}"


class PostgresStatements(Statements):
    """Runs on SQLAlchemy, which knows which errors mean a lost connection.

    Each statement is a round trip, which costs as much CPU as several rows.
    """

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
        # Not together with what is read: that would be of the time before the wait for the lock.
        connection.exec_driver_sql(self._LOCK, (names,))

    def find_all(self, connection: Connection, questions: Sequence[Question]) -> Sequence[Rows]:
        parameters = [part for _, wanted in questions for part in _parts(wanted)]
        statement = _all_found(tuple(statement for statement, _ in questions))
        return connection.exec_driver_sql(statement, tuple(parameters)).one()

    def put(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        connection.exec_driver_sql(statement, list(rows))

    def put_all(self, connection: Connection, puts: Sequence[Put]) -> None:
        parameters = [part for _, rows in puts for part in _parts(rows)]
        statement = _all_put(tuple(statement for statement, _ in puts))
        connection.exec_driver_sql(statement, tuple(parameters))

    def _insert_all(self, table: Table, columns: Iterable[Column[Any]]) -> str:
        names = ", ".join(_names(columns))
        lists = ", ".join(
            f"CAST({self._place(number)} AS {_LIST_TYPES[column.type.python_type]})"
            for number, column in enumerate(columns, 1)
        )
        return f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({lists})"  # noqa: S608 - our names

    def _place(self, number: int) -> str:
        return f"${number}"


#: Without lengths: a cast would cut off what is too long, which the table rejects.
_LIST_TYPES = {str: "text[]", int: "bigint[]", bool: "boolean[]"}


def _parts(rows: Sequence[Any]) -> list[Sequence[Any]]:
    """A list for each column; of strings there is one."""
    return [list(part) for part in zip(*rows, strict=True)] if isinstance(rows[0], tuple) else [rows]


@lru_cache(maxsize=256)
def _all_found(statements: tuple[str, ...]) -> str:
    """One row, with a list of rows for each statement."""
    lists = (f"ARRAY(SELECT found FROM ({one}) AS found)" for one in _renumbered(statements))  # noqa: S608 - ours
    return f"SELECT {', '.join(lists)}"


@lru_cache(maxsize=256)
def _all_put(statements: tuple[str, ...]) -> str:
    parts = (f"put_{number} AS ({one})" for number, one in enumerate(_renumbered(statements)))
    return f"WITH {', '.join(parts)} SELECT"


def _renumbered(statements: Iterable[str]) -> Iterator[str]:
    """The same with parameters of its own for each, in this order."""
    before = 0
    for statement in statements:
        yield _PLACE.sub(lambda place: f"${int(place[1]) + before}", statement)  # noqa: B023 - called at once
        before += max(map(int, _PLACE.findall(statement)))


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
