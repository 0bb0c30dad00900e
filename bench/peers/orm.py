"""A typical Python server: the SDK's receiver, an ORM, and a commit for each event."""

import os
import sys
from typing import Any

from aiohttp import web
from livekit import api
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Room(Base):
    __tablename__ = "rooms"

    sid: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)


class Participant(Base):
    __tablename__ = "participants"

    sid: Mapped[str] = mapped_column(primary_key=True)
    room_sid: Mapped[str] = mapped_column(index=True)
    is_in: Mapped[bool]


class Event(Base):
    __tablename__ = "events"

    id: Mapped[str] = mapped_column(primary_key=True)


SESSIONS = web.AppKey("sessions", async_sessionmaker[AsyncSession])
RECEIVER = web.AppKey("receiver", api.WebhookReceiver)


async def take_webhook(request: web.Request) -> web.Response:
    body = (await request.read()).decode()
    webhook = request.app[RECEIVER].receive(body, request.headers["Authorization"])
    async with request.app[SESSIONS].begin() as session:
        if await session.get(Event, webhook.id):
            return web.Response()
        session.add(Event(id=webhook.id))
        await session.merge(Room(sid=webhook.room.sid, name=webhook.room.name))
        is_in = webhook.event == "participant_joined"
        await session.merge(Participant(sid=webhook.participant.sid, room_sid=webhook.room.sid, is_in=is_in))
    return web.Response()


def prepare(engine: AsyncEngine) -> None:
    """Make SQLite as durable as in the service, and avoid lock errors when a reader becomes a writer."""

    def connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine.sync_engine, "connect", connect)
    event.listen(engine.sync_engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))


async def create_app(database: str, key: str, secret: str) -> web.Application:
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
    prepare(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    app = web.Application()
    app[SESSIONS] = async_sessionmaker(engine, expire_on_commit=False)
    app[RECEIVER] = api.WebhookReceiver(api.TokenVerifier(key, secret))
    app.router.add_post("/api/livekit/webhook", take_webhook)
    return app


def main() -> None:
    port, database = sys.argv[1:]
    app = create_app(database, os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"])
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main()
