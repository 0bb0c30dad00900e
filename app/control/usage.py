"""The usage ledger: what agents cost, and how long that is kept."""

from app.clock import Clock
from app.database.usage import UsageTable
from app.errors import Invalid
from app.lifecycle.days import day_of
from app.state.usage import UsageBy, UsageReport

#: Of one report: rooms may each have a name of their own.
MOST_KEYS = 20_000


class UsageLedger:
    def __init__(self, table: UsageTable, clock: Clock, *, keep_days: int) -> None:
        self._table = table
        self._clock = clock
        self._keep_days = keep_days

    @property
    def today(self) -> int:
        """Days since 1970, in UTC."""
        return day_of(self._clock.now())

    async def report(self, by: UsageBy, days: range) -> UsageReport:
        """The usage of these days, until now.

        Raises:
            Invalid: they have too many rooms.
            DatabaseUnavailable: the ledger cannot be read.
        """
        report = await self._table.read(by, days, self._clock.now(), limit=MOST_KEYS + 1)
        if len(report.items) > MOST_KEYS:
            raise Invalid(f"These days have more than {MOST_KEYS} {by}s; ask for fewer days - at `$.from`")
        return report

    async def prune(self) -> None:
        await self._table.prune(self.today - self._keep_days)
