"""One run: load, kills, a check at rest every so many kills, and the report."""

import asyncio
from collections.abc import Callable

from devstack.chaos.arena import Arena
from devstack.chaos.databases import Tables, opened
from devstack.chaos.judge import Judge
from devstack.chaos.keeper import keep_running
from devstack.chaos.killer import Killer
from devstack.chaos.load import Load
from devstack.chaos.options import Options
from devstack.chaos.report import Report
from devstack.chaos.visitors import Visitors

#: A run that has found so much has found enough.
_ENOUGH_VIOLATIONS = 60


async def rage(options: Options, say: Callable[[str], None] = lambda _: None) -> Report:
    """Run the storm to its end, or until there is nothing more to learn from it."""
    options.folder.mkdir(parents=True, exist_ok=True)
    with opened(options.database, options.folder) as url:
        async with Arena(options, url) as arena:
            return await _Storm(options, arena, Tables(url), say).run()


class _Storm:
    def __init__(self, options: Options, arena: Arena, tables: Tables, say: Callable[[str], None]) -> None:
        self._options = options
        self._arena = arena
        self._say = say
        self._rng = options.rng("storm")
        self._rooms = [f"chaos-{options.seed}-{number}" for number in range(options.rooms)]
        self._report = Report(options=options)
        self._load = Load(
            lambda: [service.base_url for service in arena.services],
            arena.api,
            self._report,
            self._rooms,
            [options.rng(f"caller {number}") for number in range(options.callers)],
        )
        self._visitors = Visitors(
            arena.server,
            self._load.request_agent,
            self._report,
            [options.rng(f"person {number}") for number in range(options.people)],
        )
        self._killer = Killer(arena.services, self._load, self._report, options.rng("kills"))
        self._judge = Judge(options, arena.api, tables, self._report)

    async def run(self) -> Report:
        options, report = self._options, self._report
        await self._load.open()
        keeper = asyncio.create_task(keep_running(self._arena.worker, report), name="keeper")
        try:
            while (
                report.killed < options.kills
                and report.elapsed_s < options.minutes * 60
                and len(report.violations) < _ENOUGH_VIOLATIONS
            ):
                await self._gust(min(options.check_every, options.kills - report.killed))
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._visitors.close()
            await self._load.close()
        return report

    async def _gust(self, kills: int) -> None:
        """So many kills under load, then the calm and the checks."""
        # Where people are, nobody ends agents; who plays which part changes, once all is over.
        visited = self._rng.sample(self._rooms, len(self._rooms) // 2)
        self._load.visited = frozenset(visited)
        self._visitors.resume(visited)
        self._load.resume()
        for _ in range(kills):
            await self._killer.kill_one()
        await self._killer.all_ready()
        visits = await self._visitors.calm()
        await self._load.calm()
        await self._judge.at_rest(visits)
        await self._visitors.dismiss()
        await self._judge.at_the_end()
        await self._judge.books(self._arena.mailroom.take_acknowledged())
        report = self._report
        report.counts["checks"] += 1
        report.counts["webhooks refused"] = self._arena.mailroom.refused
        for violation in report.news():
            self._say(f"  - {violation.kind} [{violation.room}] {violation.detail}")
        self._say(
            f"[{report.elapsed_s:6.0f} s] {report.killed} kills, {report.counts['checks']} checks, "
            f"{len(report.violations)} violations"
        )


def run(options: Options, say: Callable[[str], None] = lambda _: None) -> Report:
    return asyncio.run(rage(options, say))
