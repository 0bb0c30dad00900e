"""The doctor on set-ups with one fault each; tests/e2e has those with a real LiveKit."""

import fcntl
import gzip
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from app.cli.doctor import checks
from app.cli.doctor.database import holders_of
from app.cli.doctor.findings import Finding, Verdict
from app.clock import SteadyClock
from app.livekit.answers import ANSWER_LIMIT
from devstack.ports import free_port
from fakes.databases import PostgresServer, SqliteDatabase
from fakes.sick_livekit import answer, sick_livekit
from integration.conftest import StartApp
from integration.harness import API_KEY, KEYPAIR, SECOND_KEYPAIR, WEBHOOK, signing_with
from integration.process import run

_LIST_ROOMS = "/twirp/livekit.RoomService/ListRooms"
_JSON, _PACKED = "application/json", "Content-Encoding: gzip"
_REPORT = b'{"ready":true,"database":"reachable","timers":"restored","livekit":"reachable"}'
_DENIED = '{"code":"unauthenticated","msg":"permissions denied"}'

Findings = dict[str, list[Finding]]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "LIVEKIT_URL": "ws://127.0.0.1:1",
        "LIVEKIT_API_KEY": KEYPAIR.key,
        "LIVEKIT_API_SECRET": KEYPAIR.secret,
        "AGENT_NAME": "agent",
        "API_KEYS": API_KEY,
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "DATABASE_URL": str(tmp_path / "lifecycle.db"),
    }


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    """Also for the apps here, which are only used over HTTP."""
    return SqliteDatabase(tmp_path / "app.db")


async def examine(environ: dict[str, str], *only: str) -> Findings:
    """The findings of the named checks alone."""
    skip = [name for name in checks.NAMES if name not in only] if only else []
    found: Findings = {}
    async for check, finding in checks.examine(environ, SteadyClock(), skip=skip, wait_s=1):
        if check not in skip:
            found.setdefault(check, []).append(finding)
    return found


def fault_of(found: Findings, check: str) -> str:
    """The only fault, and its fix."""
    faults = {name: one for name, listed in found.items() for one in listed if one.verdict is Verdict.FAULT}
    assert list(faults) == [check], found
    assert faults[check].fix
    return f"{faults[check].message} -> {faults[check].fix}"


def only(found: Findings, check: str) -> Finding:
    [finding] = found[check]
    return finding


@asynccontextmanager
async def server(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """A server that answers every request like this; yields its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def livekit(*, ahead_s: float = 0) -> AsyncIterator[str]:
    """A LiveKit that rejects every request and whose clock is off."""

    async def answer(request: web.Request) -> web.Response:
        assert request.path == _LIST_ROOMS
        date = formatdate(SteadyClock().now() / 1_000_000 + ahead_s, usegmt=True)
        return web.Response(status=401, text=_DENIED, content_type="application/json", headers={"Date": date})

    async with server(answer) as address:
        yield f"ws://{address}"


async def refuse(_request: web.Request) -> web.Response:
    return web.Response(status=404, text="not here")


# Environment


async def test_every_problem_of_the_environment_is_a_fault_with_an_example(environ: dict[str, str]) -> None:
    del environ["AGENT_NAME"]
    environ["LIVEKIT_URL"] = "livekit.example.com"

    found = await examine(environ)

    assert list(found) == ["environment"]
    assert {one.message.partition(" ")[0]: one.fix for one in found["environment"]} == {
        "LIVEKIT_URL": "export LIVEKIT_URL=wss://<project>.livekit.cloud   (or ws://127.0.0.1:7880)",
        "AGENT_NAME": "export AGENT_NAME=<the agent_name of your worker>",
    }


async def test_a_misspelt_variable_is_a_warning(environ: dict[str, str]) -> None:
    found = await examine(environ | {"AGENT_TTL_SECOND": "60"}, "environment")
    first = found["environment"][0]
    assert first.verdict is Verdict.WARNING
    assert "did you mean AGENT_TTL_SECONDS?" in first.message


async def test_a_deployment_in_dev_is_a_warning(environ: dict[str, str]) -> None:
    found = await examine(environ | {"LIFECYCLE_ENV": "dev", "DYNO": "web.1"}, "environment")
    assert found["environment"][0].fix == "unset LIFECYCLE_ENV"


# LiveKit


async def test_a_livekit_that_does_not_resolve(environ: dict[str, str]) -> None:
    found = await examine(environ | {"LIVEKIT_URL": "wss://livekit.invalid"}, "livekit")
    assert "livekit.invalid, does not resolve" in fault_of(found, "livekit")


async def test_a_livekit_that_is_not_running(environ: dict[str, str]) -> None:
    found = await examine(environ, "livekit", "clock", "keys", "rooms", "worker")
    assert "nothing listens at ws://127.0.0.1:1" in fault_of(found, "livekit")
    for name in ("clock", "keys", "rooms", "worker"):
        assert only(found, name).verdict is Verdict.SKIPPED
        assert "until livekit is fixed" in only(found, name).message


async def test_an_http_server_that_is_not_livekit(environ: dict[str, str]) -> None:
    async with server(refuse) as address:
        found = await examine(environ | {"LIVEKIT_URL": f"http://{address}"}, "livekit")
    assert "answers HTTP but is not a LiveKit server (room service: 404)" in fault_of(found, "livekit")


async def test_tls_where_there_is_none(environ: dict[str, str]) -> None:
    async with livekit() as url:
        found = await examine(environ | {"LIVEKIT_URL": url.replace("ws:", "wss:")}, "livekit")
    assert f"export LIVEKIT_URL={url}" in fault_of(found, "livekit")


@pytest.mark.parametrize(("ahead_s", "said"), [(-3600, "ahead of"), (3600, "behind")])
async def test_a_clock_that_is_off_is_reported_before_the_keys(
    environ: dict[str, str], ahead_s: float, said: str
) -> None:
    async with livekit(ahead_s=ahead_s) as url:
        found = await examine(environ | {"LIVEKIT_URL": url}, "livekit", "clock", "keys")
    assert f"s {said} LiveKit's" in fault_of(found, "clock")
    assert "until clock is fixed" in only(found, "keys").message


async def test_a_clock_that_is_a_little_off_is_a_warning(environ: dict[str, str]) -> None:
    async with livekit(ahead_s=30) as url:
        found = await examine(environ | {"LIVEKIT_URL": url}, "livekit", "clock")
    assert only(found, "clock").verdict is Verdict.WARNING


async def test_a_date_that_is_none_is_not_comparable(environ: dict[str, str]) -> None:
    async with sick_livekit() as one:
        date = "Date: Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
        one.says = answer(401, _DENIED.encode(), "application/json", date)
        found = await examine(environ | {"LIVEKIT_URL": one.url}, "livekit", "clock")
    assert "not comparable" in only(found, "clock").message


# The database


@pytest.fixture
async def migrated(environ: dict[str, str], start_app: StartApp, tmp_path: Path) -> Path:
    """A database of a service that has stopped."""
    app = await start_app()
    await app.stop()
    file = tmp_path / "app.db"
    environ["DATABASE_URL"] = str(file)
    return file


_DATABASE = ("database", "sharing", "migrations")


async def test_a_database_that_does_not_exist_yet_is_ok_and_is_not_created(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ["DATABASE_URL"] = str(tmp_path / "new" / "lifecycle.db")
    found = await examine(environ, *_DATABASE)
    assert {only(found, name).verdict for name in _DATABASE} == {Verdict.OK}
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - pathlib has none that is async either


async def test_a_database_of_a_service_is_ok_and_unchanged(environ: dict[str, str], migrated: Path) -> None:
    before = SqliteDatabase(migrated).stored()
    found = await examine(environ, *_DATABASE)
    assert {only(found, name).verdict for name in _DATABASE} == {Verdict.OK}
    assert only(found, "migrations").message == "the schema is up to date"
    assert SqliteDatabase(migrated).stored() == before


async def test_an_older_schema_is_upgraded_on_trial_and_unchanged(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "lifecycle.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    found = await examine(environ, "database", "migrations")
    assert only(found, "migrations").verdict is Verdict.OK
    with closing(sqlite3.connect(file)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert tables == [("alembic_version",)]


async def test_a_schema_of_a_newer_version(environ: dict[str, str], migrated: Path) -> None:
    SqliteDatabase(migrated).execute("UPDATE alembic_version SET version_num = 'from-the-future'")
    found = await examine(environ, *_DATABASE)
    assert "written by a newer version" in fault_of(found, "migrations")


async def test_a_damaged_file(environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "lifecycle.db"
    file.write_bytes(b"not a database at all, whatever its name says" * 100)
    found = await examine(environ, *_DATABASE)
    assert "damaged or not an SQLite database" in fault_of(found, "database")
    assert only(found, "migrations").verdict is Verdict.SKIPPED


async def test_a_folder_that_is_not_writable(environ: dict[str, str]) -> None:
    # Not even root can create a file there.
    found = await examine(environ | {"DATABASE_URL": "/proc/lifecycle.db"}, "database")
    assert "cannot be created in /proc" in fault_of(found, "database")


async def test_a_file_that_another_program_has_locked(environ: dict[str, str], migrated: Path) -> None:
    with locked_by_another_process(migrated) as pid:
        found = await examine(environ, "database")
    assert f"is locked by another program (process {pid})" in fault_of(found, "database")


async def test_one_process_with_the_file_open_is_the_service(environ: dict[str, str], migrated: Path) -> None:
    with open_in_another_process(migrated) as pid:
        found = await examine(environ, *_DATABASE)
    assert only(found, "sharing").verdict is Verdict.OK
    assert (
        only(found, "sharing").message == f"one process has {migrated} open ({pid}): the service is running"
    )


async def test_the_lock_tells_of_a_service_that_cannot_be_seen(
    environ: dict[str, str], migrated: Path
) -> None:
    lock = migrated.with_name(f"{migrated.name}.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = await examine(environ, *_DATABASE)
    sharing = only(found, "sharing")
    assert (sharing.verdict, "holds the lock" in sharing.message) == (Verdict.OK, True)


async def test_a_file_that_others_can_open_is_a_warning(environ: dict[str, str], migrated: Path) -> None:
    os.chmod(migrated, 0o644)  # noqa: PTH101 - pathlib has none that is async either
    found = await examine(environ, "database")
    said = found["database"][0]
    assert (said.verdict, said.fix) == (
        Verdict.WARNING,
        f"chmod 600 {migrated}   (the service does it at its start, if it is the owner)",
    )


async def test_two_processes_with_the_file_open_are_a_fault(environ: dict[str, str], migrated: Path) -> None:
    with open_in_another_process(migrated) as one, open_in_another_process(migrated) as other:
        found = await examine(environ, *_DATABASE)
    said = fault_of(found, "sharing")
    assert str(one) in said
    assert str(other) in said
    assert holders_of(migrated) == []


@pytest.mark.parametrize("is_migrated", [True, False])
async def test_postgres_is_written_to_and_upgraded_on_trial_only(
    environ: dict[str, str], postgres: PostgresServer, *, is_migrated: bool
) -> None:
    with closing(postgres.create()) as database:
        if is_migrated:
            database.migrate()
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        before = database.query(tables)
        environ["DATABASE_URL"] = database.url
        found = await examine(environ, *_DATABASE, "disk")

        assert {one.verdict for listed in found.values() for one in listed} == {Verdict.OK}, found
        assert ("is up to date" in only(found, "migrations").message) is is_migrated
        assert database.query(tables) == before


async def test_an_unreachable_postgres_is_reported_without_its_password(environ: dict[str, str]) -> None:
    environ["DATABASE_URL"] = "postgresql://somebody:hunter2@127.0.0.1:1/lifecycle"
    said = fault_of(await examine(environ, *_DATABASE), "database")
    assert "cannot be opened" in said
    assert "hunter2" not in said


# Port and webhook


async def test_a_port_in_use_by_another_program(environ: dict[str, str]) -> None:
    async with server(refuse) as address:
        port = address.rpartition(":")[2]
        found = await examine(environ | {"PORT": port}, "port")
    assert f"port {port} is in use by another program" in fault_of(found, "port")


async def test_an_answer_without_end_is_not_read_to_its_end(environ: dict[str, str]) -> None:
    async with sick_livekit() as one:
        one.says = answer(200, gzip.compress(_REPORT + bytes([32]) * ANSWER_LIMIT), _JSON, _PACKED)
        port = one.url.rpartition(":")[2]
        found = await examine(environ | {"PORT": port}, "port")
    assert f"port {port} is in use by another program" in fault_of(found, "port")


async def test_a_port_in_use_by_the_service_is_ok(environ: dict[str, str], start_app: StartApp) -> None:
    app = await start_app()
    port = app.port
    found = await examine(environ | {"PORT": str(port)}, "port")
    assert only(found, "port").verdict is Verdict.OK
    assert "the service is running" in only(found, "port").message


async def test_a_host_of_another_machine(environ: dict[str, str]) -> None:
    found = await examine(environ | {"HOST": "192.0.2.1"}, "port")
    assert "192.0.2.1 is not an address of this machine" in fault_of(found, "port")


async def test_the_service_accepts_the_webhook(environ: dict[str, str], start_app: StartApp) -> None:
    app = await start_app()
    environ["PUBLIC_URL"] = f"http://127.0.0.1:{app.port}"
    assert only(await examine(environ, "webhook"), "webhook").verdict is Verdict.OK
    assert (await app.listed()) == []


async def test_a_service_with_other_keys_rejects_the_webhook(
    environ: dict[str, str], start_app: StartApp
) -> None:
    app = await start_app(**signing_with(SECOND_KEYPAIR), webhook_keys=())
    environ["PUBLIC_URL"] = f"http://127.0.0.1:{app.port}"
    assert "rejected a webhook with this key" in fault_of(await examine(environ, "webhook"), "webhook")


async def _no_endpoint(request: web.Request) -> web.Response:
    assert request.path == WEBHOOK
    return web.Response(status=404)


async def _redirect(_request: web.Request) -> web.Response:
    return web.Response(status=308, headers={"Location": f"https://secure.example.com{WEBHOOK}"})


async def _bad_gateway(_request: web.Request) -> web.Response:
    return web.Response(status=502)


async def _landing_page(_request: web.Request) -> web.Response:
    return web.Response(text="<h1>Welcome</h1>", content_type="text/html")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_no_endpoint, "there is no webhook endpoint at"),
        (_redirect, "export PUBLIC_URL=https://secure.example.com"),
        (_bad_gateway, "the proxy there has no service"),
        (_landing_page, "is not this service"),
    ],
)
async def test_what_prevents_a_webhook_is_named(
    environ: dict[str, str], answer: Callable[[web.Request], Awaitable[web.Response]], said: str
) -> None:
    async with server(answer) as address:
        found = await examine(environ | {"PUBLIC_URL": f"http://{address}"}, "webhook")
    assert said in fault_of(found, "webhook")


async def test_a_public_url_where_nothing_listens(environ: dict[str, str]) -> None:
    found = await examine(environ | {"PUBLIC_URL": "http://127.0.0.1:1"}, "webhook")
    assert "nothing listens at http://127.0.0.1:1/api/livekit/webhook" in fault_of(found, "webhook")


# The command


async def test_the_command_prints_a_line_per_finding_in_ascii(environ: dict[str, str]) -> None:
    ended = await run("doctor", "--skip", "worker", **environ)

    assert (ended.code, ended.err) == (1, "")
    assert ended.out.isascii()
    lines = ended.out.splitlines()
    assert "fault   livekit     nothing listens at ws://127.0.0.1:1" in lines
    assert "skipped worker      skipped as requested" in lines
    assert lines[-1] == "1 fault, no warnings"
    for secret in (KEYPAIR.secret, API_KEY):
        assert secret not in ended.out


async def test_the_command_exits_with_0_without_a_fault(environ: dict[str, str]) -> None:
    others = (word for name in checks.NAMES[1:] for word in ("--skip", name))
    ended = await run("doctor", "--json", *others, **environ)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["healthy"] is True


@contextmanager
def open_in_another_process(file: Path) -> Iterator[int]:
    with _holding(file, "c.execute('SELECT * FROM rooms')") as pid:
        yield pid


@contextmanager
def locked_by_another_process(file: Path) -> Iterator[int]:
    with _holding(file, "c.execute('BEGIN EXCLUSIVE')") as pid:
        yield pid


@contextmanager
def _holding(file: Path, act: str) -> Iterator[int]:
    opened = f"import sqlite3, sys; c = sqlite3.connect({str(file)!r})"
    code = f"{opened}; {act}; print('done', flush=True); sys.stdin.read()"
    with subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        yield process.pid
        process.kill()
