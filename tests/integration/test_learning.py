"""The TTL that is learned: from returns to any replica, kept over a restart, the default before."""

from pathlib import Path

import pytest

from app.config.agents import AgentPolicy, LearnedTtl
from app.errors import DatabaseUnavailable
from app.lifecycle import SECOND_US
from app.lifecycle.days import day_of
from app.lifecycle.returns import FORGOTTEN_AFTER_DAYS, bucket_of
from fakes.server import FakeServer
from integration.conftest import StartApp
from integration.dashboard_page import Page
from integration.harness import AGENT, ON_BOTH, OTHER_AGENT, App, World

DEFAULT_S = 300
AUTO = AgentPolicy(
    ttl_s=DEFAULT_S, join_timeout_s=15, learned=LearnedTtl(ttl_min_s=5, ttl_max_s=900, ttl_keep=0.95)
)
FIXED = AgentPolicy(ttl_s=DEFAULT_S, join_timeout_s=15)
DAY_S = 86_400

_USAGE = "day, dispatch_row_id, agent_name, room_name, starting_us, talked_us, idle_us, unvisited_us"


def ttl_s(app: App, agent_name: str = AGENT) -> float:
    """That of new dispatches."""
    return app.service.policies.lifecycle.terms_for(agent_name, "room").ttl_us / SECOND_US


def store_returns(world: World, number: int, after_s: int, *, agent: str = AGENT, days_ago: int = 0) -> None:
    day, bucket = day_of(world.clock.now()) - days_ago, bucket_of(after_s * SECOND_US)
    world.database.execute(f"INSERT INTO returns VALUES ('{agent}', {day}, {bucket}, {number}, 0)")  # noqa: S608 - our own


async def metric(app: App, name: str) -> list[str]:
    _, _, text = await app.scrape()
    prefix = f"agent_lifecycle_{name}{{"
    return [line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)]


async def visit(app: App, server: FakeServer, room: str = "room") -> None:
    await app.dispatch(room)
    await app.advance(1)
    server.join(room)
    await app.settle()
    await app.advance(60)
    server.leave(room)
    await app.settle()


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_returns_are_counted_as_kept_or_lost_and_without_names(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    app = await start_app(agents={AGENT: FIXED})
    await visit(app, server)
    for after_s in (10, 10, 200, DEFAULT_S):
        await app.pass_time(after_s)
        if after_s == DEFAULT_S:
            await app.pass_time(300)
        await visit(app, server)

    day = day_of(world.clock.now())
    # An agent that was kept is met a second after the call; a lost one was missed at the call.
    assert world.database.query("SELECT * FROM returns ORDER BY bucket") == [
        {
            "agent_name": AGENT,
            "day": day,
            "bucket": bucket_of(after_s * SECOND_US),
            "kept": kept,
            "lost": lost,
        }
        for after_s, kept, lost in ((11, 2, 0), (201, 1, 0), (DEFAULT_S + 300, 0, 1))
    ]
    assert await metric(app, "returns_total") == [
        f'agent="{AGENT}",result="kept"}} 3.0',
        f'agent="{AGENT}",result="lost"}} 1.0',
    ]
    assert ttl_s(app) == DEFAULT_S


@ON_BOTH
@pytest.mark.usefixtures("worker")
async def test_the_default_holds_until_enough_returns_were_seen(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    store_returns(world, 19, 40)
    app = await start_app(agents={AGENT: AUTO, OTHER_AGENT: FIXED})
    assert ttl_s(app) == DEFAULT_S
    assert f'agent="{AGENT}",source="default"}} 300.0' in await metric(app, "ttl_seconds")

    await visit(app, server)
    await app.pass_time(10)
    await visit(app, server)
    await app.sweep()

    assert ttl_s(app) == pytest.approx(45.25, abs=0.01)
    assert f'agent="{AGENT}",source="learned"}} 45.254833' in await metric(app, "ttl_seconds")
    assert f'agent="{OTHER_AGENT}",source="fixed"}} 300.0' in await metric(app, "ttl_seconds")
    # The agent of before keeps the terms that it was made with.
    assert (await app.status())["ttlExpiresAt"] is not None
    await app.pass_time(DEFAULT_S - 1)
    assert await app.state() == "idle"
    await visit(app, server, "later")
    await app.pass_time(46)
    assert await app.state("later") == "none"


@ON_BOTH
async def test_what_was_learned_outlives_a_restart(start_app: StartApp, world: World) -> None:
    store_returns(world, 500, 100)
    first = await start_app(agents={AGENT: AUTO})
    learned_s = ttl_s(first)
    await first.stop()

    second = await start_app(ready=False, agents={AGENT: AUTO})

    assert ttl_s(second) == learned_s == 128


async def test_a_reload_learns_by_the_new_policy_at_once(
    start_app: StartApp, world: World, tmp_path: Path
) -> None:
    """Before it sends the terms to what is running."""
    store_returns(world, 100, 100)
    file = tmp_path / "agents.toml"
    app = await start_app(agents={AGENT: FIXED}, agents_file=file)

    for text, expected_s in (('ttl_s = "auto"', 128), ('ttl_s = "auto"\nttl_max_s = 110', 110), ("", 300)):
        file.write_text(f"[agents.{AGENT}]\n{text}\n", encoding="utf-8")
        await app.service.reloader.reload()
        assert ttl_s(app) == expected_s


async def test_the_ttl_stays_within_its_bounds(start_app: StartApp, world: World) -> None:
    store_returns(world, 500, 2)
    store_returns(world, 500, 880, agent=OTHER_AGENT)
    app = await start_app(agents={AGENT: AUTO, OTHER_AGENT: AUTO})

    assert (ttl_s(app), ttl_s(app, OTHER_AGENT)) == (5, 900)


async def test_what_was_learned_stays_while_the_database_cannot_be_read(
    start_app: StartApp, world: World
) -> None:
    store_returns(world, 500, 100)
    app = await start_app(agents={AGENT: AUTO})
    world.database_faults.down = True

    with pytest.raises(DatabaseUnavailable):
        await app.service.learning.refresh()

    assert ttl_s(app) == 128
    world.database_faults.down = False


async def test_the_dashboard_has_each_ttl_with_what_it_costs_and_saves(
    start_app: StartApp, world: World
) -> None:
    """Those who stayed away for longer than any learned TTL are left out."""
    store_returns(world, 20, 100)
    store_returns(world, 30, 20_000)
    store_returns(world, 7, 100, days_ago=7)
    async with Page(await start_app(agents={AGENT: AUTO})) as page:
        await page.sign_in()
        async with page.stream() as stream:
            ttls = (await stream.next("beat"))["ttls"]

    shown = {"agent": AGENT, "ttlS": 128, "source": "learned", "kept": 20, "lost": 0, "idleS": 0}
    fixed = {"agent": OTHER_AGENT, "ttlS": DEFAULT_S, "source": "fixed", "kept": 0, "lost": 0, "idleS": 0}
    assert ttls == [shown, fixed]


@ON_BOTH
async def test_old_returns_weigh_less_and_are_deleted(start_app: StartApp, world: World) -> None:
    store_returns(world, 500, 600, days_ago=FORGOTTEN_AFTER_DAYS + 1)
    store_returns(world, 100, 600, days_ago=FORGOTTEN_AFTER_DAYS)
    store_returns(world, 100, 600, days_ago=14)
    store_returns(world, 500, 100)
    app = await start_app(agents={AGENT: AUTO})

    await app.sweep()

    assert ttl_s(app) == 128
    days = [day_of(world.clock.now()) - row["day"] for row in world.rows("returns")]
    assert sorted(days) == [0, 14, FORGOTTEN_AFTER_DAYS]


@ON_BOTH
async def test_the_idle_time_is_what_the_ledger_has_of_seven_days(start_app: StartApp, world: World) -> None:
    today = day_of(world.clock.now())
    for number, day in enumerate((today, today - 6, today - 7)):
        values = f"{day}, '{number}', '{AGENT}', 'room', 0, 0, {90 * SECOND_US}, 7"
        world.database.execute(f"INSERT INTO usage ({_USAGE}) VALUES ({values})")  # noqa: S608 - our own
    app = await start_app()

    assert f'agent="{AGENT}"}} 180.0' in await metric(app, "ttl_idle_seconds")
