"""A chaos run: load, kills, checks at rest, and the report."""

from collections.abc import Callable

from devstack.chaos.checker import Checker
from devstack.chaos.databases import Tables, opened
from devstack.chaos.environment import Environment
from devstack.chaos.killer import Killer
from devstack.chaos.load import Load
from devstack.chaos.options import Options
from devstack.chaos.report import Report
from devstack.chaos.visitors import Visitors

#: A run with this many violations stops.
_ENOUGH_VIOLATIONS = 60


async def run(options: Options, say: Callable[[str], None] = lambda _: None) -> Report:
    """Run to the end, or until there are enough violations."""
    options.folder.mkdir(parents=True, exist_ok=True)
    with opened(options.database, options.folder) as url:
        async with Environment(options, url) as environment:
            return await _Run(options, environment, Tables(url), say).run()


class _Run:
    def __init__(
        self, options: Options, environment: Environment, tables: Tables, say: Callable[[str], None]
    ) -> None:
        self._options = options
        self._environment = environment
        self._say = say
        self._rng = options.rng("storm")
        self._rooms = [f"chaos-{options.seed}-{number}" for number in range(options.rooms)]
        self._report = Report(options=options)
        self._load = Load(
            lambda: [service.base_url for service in environment.services],
            environment.api,
            self._report,
            self._rooms,
            [options.rng(f"caller {number}") for number in range(options.callers)],
        )
        self._visitors = Visitors(
            environment.server,
            self._load.request_agent,
            self._report,
            [options.rng(f"person {number}") for number in range(options.people)],
        )
        self._killer = Killer(environment.services, self._load, self._report, options.rng("kills"))
        self._checker = Checker(options, environment.api, environment.relay.departed, tables, self._report)

    async def run(self) -> Report:
        options, report = self._options, self._report
        await self._load.open()
        try:
            while (
                report.killed < options.kills
                and report.elapsed_s < options.minutes * 60
                and len(report.violations) < _ENOUGH_VIOLATIONS
            ):
                await self._round(min(options.check_every, options.kills - report.killed))
        finally:
            await self._visitors.close()
            await self._load.close()
        return report

    async def _round(self, kills: int) -> None:
        """One round: kills under load, then the checks at rest."""
        if self._options.warm:
            await self._checker.pool_is_full()
        # Nobody ends agents in rooms with people. Each round picks new rooms for them.
        visited = self._rng.sample(self._rooms, len(self._rooms) // 2)
        self._load.visited = frozenset(visited)
        self._visitors.resume(visited)
        self._load.resume()
        for _ in range(kills):
            await self._killer.kill_one()
        await self._killer.all_ready()
        visits = await self._visitors.calm()
        await self._load.calm()
        await self._checker.at_rest(visits)
        await self._visitors.dismiss()
        await self._checker.at_the_end()
        await self._checker.webhooks_stored(self._environment.relay.take_acknowledged())
        report = self._report
        report.counts["checks"] += 1
        report.counts["webhooks refused"] = self._environment.relay.refused
        for violation in report.new_violations():
            self._say(f"  - {violation.kind} [{violation.room}] {violation.detail}")
        self._say(
            f"[{report.elapsed_s:6.0f} s] {report.killed} kills, {report.counts['checks']} checks, "
            f"{len(report.violations)} violations"
        )
