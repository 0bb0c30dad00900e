"""A reload of AGENTS_FILE: what runs keeps its policy unless the file says otherwise."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Any

import jwt
import pytest

from app.config.agents_file import read_agents_file
from devstack.truth import eventually
from fakes.server import FakeServer
from integration import process
from integration.conftest import StartApp
from integration.harness import AGENT, API_KEY, KEYPAIR, ON_BOTH, OTHER_AGENT, TOKEN, App, World

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agents.toml"
    path.write_text("", encoding="utf-8")
    return path


def write(file: Path, text: str, *, running: str = "keep") -> None:
    file.write_text(f'running = "{running}"\n{text}', encoding="utf-8")


def remove(file: Path) -> None:
    file.unlink()


def settings(world: World, file: Path) -> dict[str, Any]:
    """As `load_config` reads them."""
    config = world.config
    read = read_agents_file(file, config.agent_names)
    return {
        "agents_file": file,
        "agents": read.policies(config.agent_names, config.default_policy),
        "running": read.running,
    }


async def idle_with(start_app: StartApp, world: World, file: Path, text: str) -> App:
    """An agent that runs with the policy of this file, and whose user has just left."""
    write(file, text)
    app = await start_app(**settings(world, file))
    await app.dispatch()
    await app.advance(6)
    world.livekit.server.join("room")
    await app.advance(1)
    world.livekit.server.leave("room")
    await app.settle()
    return app


async def ttl_s(app: App, room: str = "room") -> float:
    (row,) = [row for row in app.world.rows("dispatches") if row["room_name"] == room]
    return float(row["ttl_expires_at"] - app.world.clock.now()) / 1_000_000


@ON_BOTH
async def test_what_runs_keeps_its_policy_and_what_comes_has_the_new_one(
    start_app: StartApp, world: World, server: FakeServer, file: Path
) -> None:
    app = await idle_with(start_app, world, file, "[agents.agent]\nttl_s = 100")
    write(file, "[agents.agent]\nttl_s = 40")

    await app.service.reloader.reload()

    assert await ttl_s(app) == 100
    await app.dispatch("new")
    assert await ttl_s(app, "new") == 40
    # The terms are in the row: they hold for each later deadline too, also after a restart.
    await app.stop()
    app = await start_app(**settings(world, file))
    server.join("room")
    await app.advance(1)
    server.leave("room")
    await app.settle()
    assert await ttl_s(app) == 100


@ON_BOTH
async def test_with_update_what_runs_has_the_new_policy_at_once(
    start_app: StartApp, world: World, file: Path
) -> None:
    app = await idle_with(start_app, world, file, "[agents.agent]\nttl_s = 100")
    await app.pass_time(30)
    write(file, "[agents.agent]\nttl_s = 40\nrestart = 'never'", running="update")

    await app.service.reloader.reload()

    assert await ttl_s(app) == 10
    # The timer has moved too.
    world.clock.advance(10)
    (deadline,) = await app.service.store.deadlines_until(world.clock.now())
    app.service.sweeper.act(deadline)
    await app.settle()
    assert world.agents("room") == []


async def test_a_restart_with_update_is_a_reload_too(start_app: StartApp, world: World, file: Path) -> None:
    app = await idle_with(start_app, world, file, "[agents.agent]\nttl_s = 100")
    await app.stop()
    write(file, "[agents.agent]\nttl_s = 400", running="update")

    app = await start_app(**settings(world, file))

    assert await ttl_s(app) == 400


async def test_an_unchanged_file_writes_nothing(
    start_app: StartApp, world: World, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = await idle_with(start_app, world, file, "[agents.agent]\nttl_s = 100")
    write(file, "[agents.agent]\nttl_s = 100", running="update")
    before = world.tables()

    with caplog.at_level(logging.INFO):
        await app.service.reloader.reload()

    assert world.tables() == before
    told = [vars(record) for record in caplog.records if vars(record).get("action") == "reload"]
    assert [one.get("changes", one.get("count")) for one in told] == [0, 0]


async def test_a_bad_file_is_logged_line_by_line_and_changes_nothing(
    start_app: StartApp, world: World, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = await idle_with(start_app, world, file, "[agents.agent]\nttl_s = 100")
    before = dict(app.service.policies.agents)
    write(file, "[agents.agent]\nttl_s = 0\n[agents.agnet]\nttl_s = 40\n", running="update")

    await app.service.reloader.reload()
    remove(file)
    await app.service.reloader.reload()

    errors = [vars(record)["reason"] for record in caplog.records if record.levelno == logging.ERROR]
    assert [problem.partition(" ")[0] for problem in errors] == [
        "agents.toml:3:",
        "agents.toml:4:",
        "AGENTS_FILE",
    ]
    assert app.service.policies.agents == before
    assert await ttl_s(app) == 100


async def test_the_log_says_what_has_changed(
    start_app: StartApp, world: World, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = await idle_with(start_app, world, file, "[agents.agent]\nttl_s = 100")
    write(file, f"[agents.{AGENT}]\nttl_s = 'auto'\n[agents.{OTHER_AGENT}]\nmax_agents = 5")

    with caplog.at_level(logging.INFO):
        await app.service.reloader.reload()

    told = [vars(record) for record in caplog.records if "policy of an agent" in record.message]
    assert [(one["agent"], one["before"], one["after"]) for one in told] == [
        (
            AGENT,
            {"ttl_s": "100", "ttl_min_s": "none", "ttl_max_s": "none", "ttl_keep": "none"},
            {"ttl_s": "auto", "ttl_min_s": "30", "ttl_max_s": "3600", "ttl_keep": "0.95"},
        ),
        (OTHER_AGENT, {"max_agents": "none"}, {"max_agents": "5"}),
    ]


async def test_rooms_and_tokens_outlive_the_longest_ttl_of_the_new_file(
    start_app: StartApp, world: World, server: FakeServer, file: Path
) -> None:
    app = await start_app(**settings(world, file))
    write(file, "[agents.other-agent]\nttl_s = 5000")

    await app.service.reloader.reload()

    await app.dispatch()
    assert server.rooms["room"].departure_timeout_s == 5_060
    token = (await app.call("POST", TOKEN, json_body={})).body["participant_token"]
    claims = jwt.decode(token, KEYPAIR.secret, algorithms=["HS256"])
    assert claims["roomConfig"]["departureTimeout"] == 5_060


async def test_a_database_that_is_down_is_said_and_the_next_signal_finishes_it(
    start_app: StartApp, world: World, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = await idle_with(start_app, world, file, "[agents.agent]\nttl_s = 100")
    write(file, "[agents.agent]\nttl_s = 40", running="update")
    world.database_faults.down = True
    await app.service.reloader.reload()
    assert "send SIGHUP again" in caplog.text
    world.database_faults.down = False

    await app.service.reloader.reload()

    assert await ttl_s(app) == 40


# The signal


async def test_sighup_reloads_the_file_of_a_process(tmp_path: Path, file: Path) -> None:
    async with process.running(
        DATABASE_URL=str(tmp_path / "lifecycle.db"), AGENTS_FILE=str(file), LIFECYCLE_ENV="dev"
    ) as service:

        async def timeout_s() -> int:
            headers = {"Authorization": f"Bearer {API_KEY}"}
            async with service.session.post(TOKEN, json={}, headers=headers) as answer:
                token = (await answer.json())["participant_token"]
            timeout: int = jwt.decode(token, KEYPAIR.secret, algorithms=["HS256"])["roomConfig"][
                "departureTimeout"
            ]
            return timeout

        assert await timeout_s() == 360
        for ttl in (1_000, 2_000):
            write(file, f"[agents.agent]\nttl_s = {ttl}")
            service.process.send_signal(signal.SIGHUP)

            async def is_reloaded(expected_s: int = ttl + 60) -> bool:
                return await timeout_s() == expected_s

            await eventually(is_reloaded, f"the TTL is {ttl}")


async def test_a_stop_during_a_reload_leaves_no_task(start_app: StartApp, world: World, file: Path) -> None:
    requested = asyncio.Event()
    app = await start_app(**settings(world, file))
    app.service.reloader.follow(requested)
    requested.set()
    await asyncio.sleep(0)

    await app.stop()
