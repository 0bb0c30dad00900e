"""The usage endpoint: what agents cost, as JSON or CSV."""

import csv
import io
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from app.errors import Invalid
from app.lifecycle import SECOND_US, EndReason
from app.lifecycle.usage import TimeKind
from app.state.usage import DAY_0, Usage, UsageBy, UsageKey, UsageReport, iso_day
from app.web.keys import SERVICE

CSV = "text/csv"
DEFAULT_DAYS = 30

#: Spreadsheets take a text that begins so for a formula, and a stranger may choose the name of a room.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


_Day = Annotated[str, Meta(extra_json_schema={"format": "date"})]


class UsageQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Unset, not None: as the text of a parameter, `null` would be read as None."""

    first: Annotated[
        date | UnsetType, Meta(description="The first day, in UTC; if left out, 30 days before `to`.")
    ] = msgspec.field(default=UNSET, name="from")
    to: Annotated[
        date | UnsetType, Meta(description="The day after the last one, in UTC; if left out, tomorrow.")
    ] = UNSET
    by: UsageBy = UsageBy.AGENT
    format: Annotated[
        Literal["json", "csv"] | UnsetType,
        Meta(description="If left out, JSON, unless `Accept` has `text/csv`."),
    ] = UNSET


class UsageTimes(msgspec.Struct, rename="camel", kw_only=True):
    dispatches: int
    #: No agent was in yet.
    starting_s: float
    #: The agent and people were in.
    talked_s: float
    #: The agent was alone, after somebody had come.
    idle_s: float
    #: The agent was alone, and nobody had come yet.
    unvisited_s: float
    #: Agents waited in a pool, for nobody yet; of no room.
    warm_s: float
    #: How many of the dispatches have ended, by reason.
    end_reasons: dict[str, int]


class UsageItem(UsageTimes):
    #: The name of the agent or of the room, or the day.
    key: str


class UsageResponse(msgspec.Struct, rename="camel", kw_only=True):
    first: _Day = msgspec.field(name="from")
    to: _Day
    by: UsageBy
    items: list[UsageItem]
    #: A dispatch of several days is one here, and one in the item of each day.
    totals: UsageTimes


async def show_usage(request: web.Request, query: UsageQuery) -> UsageResponse | web.Response:
    ledger = request.app[SERVICE].usage
    days = days_of(query, ledger.today)
    report = await ledger.report(query.by, days)
    if query.format == "csv" or (query.format is UNSET and _accepts_csv(request)):
        return web.Response(text=as_csv(report, query.by), content_type=CSV, charset="utf-8")
    return UsageResponse(
        first=iso_day(days.start),
        to=iso_day(days.stop),
        by=query.by,
        items=[UsageItem(key=_name(key), **_times(item)) for key, item in sorted(report.items.items())],
        totals=UsageTimes(**_times(report.total)),
    )


def days_of(query: UsageQuery, today: int) -> range:
    """The days since 1970 that the query is about. Raises: Invalid: there are none."""
    stop = today + 1 if query.to is UNSET else _number(query.to)
    start = max(stop - DEFAULT_DAYS, _number(date.min)) if query.first is UNSET else _number(query.first)
    if start >= stop:
        raise Invalid(f"The first day is not before {iso_day(stop)}, where the days end - at `$.from`")
    return range(start, stop)


def as_csv(report: UsageReport, by: UsageBy) -> str:
    """A line for each key, with a column for each time and for each reason of an end."""
    file = io.StringIO()
    lines = csv.writer(file)
    lines.writerow([by, "dispatches", *(f"{kind}S" for kind in TimeKind), *EndReason])
    for key, item in sorted(report.items.items()):
        times_s = (f"{item.times_us[kind] / SECOND_US:.6f}" for kind in TimeKind)
        reasons = (item.end_reasons[reason] for reason in EndReason)
        lines.writerow([_cell(_name(key)), item.dispatches, *times_s, *reasons])
    return file.getvalue()


def _number(day: date) -> int:
    return (day - DAY_0).days


def _name(key: UsageKey) -> str:
    return key if isinstance(key, str) else iso_day(key)


def _cell(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULAS) else name


def _times(item: Usage) -> dict[str, Any]:
    times_s = {f"{kind}_s": item.times_us[kind] / SECOND_US for kind in TimeKind}
    return {"dispatches": item.dispatches, "end_reasons": item.end_reasons, **times_s}


def _accepts_csv(request: web.Request) -> bool:
    ranges = ",".join(request.headers.getall("Accept", [])).split(",")
    return any(part.partition(";")[0].strip().lower() == CSV for part in ranges)
