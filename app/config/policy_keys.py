"""The keys of a policy in AGENTS_FILE: a parser for each, and the variable that is its default."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from app.config.agents import AgentPolicy, MemberEnd
from app.lifecycle import Restart, Share
from app.lifecycle.terms import WHOLE

E = TypeVar("E", bound=StrEnum)
Parser: TypeAlias = Callable[[object], Any]

AUTO, NONE = "auto", "none"
#: Without effect but with `ttl_s = "auto"`.
LEARNED_KEYS = ("ttl_min_s", "ttl_max_s", "ttl_keep")

_WEEK_S = 7 * 86_400
_LONGEST_NAME = 128
#: Of weights such as 33.3, whose sum may miss 100 by that.
_ROUNDING = 1e-6
_DEPLOYMENT_KEYS = ("name", "weight")


@dataclass(frozen=True, kw_only=True)
class PolicyKey:
    parse: Parser
    #: The environment variable for all agents.
    variable: str | None = None


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is probably a misspelt one of the known; "" if it resembles none."""
    names = list(known)
    # A name that was cut short is closest to the whole name.
    whole = [one for one in names if name and one.startswith(name)]
    close = whole or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def nearest_key(name: str) -> str:
    """The same for a key; whoever writes the variable means its key."""
    variables = {key.variable: one for one, key in KEYS.items() if key.variable}
    if name.upper() in variables:
        return f"; did you mean {variables[name.upper()]}?"
    return nearest(name.lower(), KEYS)


def _whole(least: int, most: int) -> Parser:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return parse


def _or(word: str, result: str | None, parse: Parser) -> Parser:
    """A parser that takes one word as well."""

    def parse_or(value: object) -> Any:
        if value == word:
            return result
        try:
            return parse(value)
        except ValueError as problem:
            raise ValueError(f'{problem}, or "{word}"') from None

    return parse_or


def _or_none(parse: Parser) -> Parser:
    """For what has no limit by default: an agent may undo a limit of [defaults]."""
    return _or(NONE, None, parse)


def _share(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError("must be a share above 0, up to 1")
    return float(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotation marks")  # noqa: TRY004 - reported as others
    return value


def _member(kind: type[E]) -> Parser:
    def parse(value: object) -> E:
        try:
            return kind(str(value))
        except ValueError:
            raise ValueError("must be one of " + ", ".join(f'"{one}"' for one in kind)) from None

    return parse


def _deployment(value: object) -> tuple[Share, ...]:
    """Those without a weight share equally what the others leave."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError('must be a list such as [{name = "v2", weight = 10}, {name = "v1"}]')
    for number, entry in enumerate(value, start=1):
        _check_entry(entry, number)
    names = [entry["name"] for entry in value]
    if len(set(names)) < len(names):
        raise ValueError("names a deployment twice")
    weights = [float(entry["weight"]) for entry in value if "weight" in entry]
    total, others = math.fsum(weights), len(value) - len(weights)
    is_short = weights and not others and total < WHOLE - _ROUNDING
    if total > WHOLE + _ROUNDING or is_short:
        raise ValueError(f"has weights that add up to {total:g}, not {WHOLE:g}")
    rest = max(0.0, WHOLE - total) / others if others else 0.0
    return tuple(Share(deployment=entry["name"], weight=float(entry.get("weight", rest))) for entry in value)


def _check_entry(entry: Mapping[str, object], number: int) -> None:
    for key in entry:
        if key not in _DEPLOYMENT_KEYS:
            raise ValueError(f"has in entry {number} the unknown key {key}{nearest(key, _DEPLOYMENT_KEYS)}")
    name, weight = entry.get("name"), entry.get("weight", 0)
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"needs a name in entry {number}, of up to {_LONGEST_NAME} printable characters")
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight <= WHOLE:
        raise ValueError(f"has in entry {number} a weight that is not a number from 0 to {WHOLE:g}")


_TTL = _whole(1, _WEEK_S)

KEYS: Mapping[str, PolicyKey] = {
    "ttl_s": PolicyKey(parse=_or(AUTO, AUTO, _TTL), variable="AGENT_TTL_SECONDS"),
    "ttl_min_s": PolicyKey(parse=_TTL),
    "ttl_max_s": PolicyKey(parse=_TTL),
    "ttl_keep": PolicyKey(parse=_share),
    "unvisited_ttl_s": PolicyKey(parse=_or_none(_TTL)),
    "phone_ttl_s": PolicyKey(parse=_or_none(_whole(0, _WEEK_S))),
    "max_session_s": PolicyKey(parse=_or_none(_TTL)),
    "warn_before_s": PolicyKey(parse=_whole(0, _WEEK_S)),
    "max_agents": PolicyKey(parse=_or_none(_whole(1, 1_000_000))),
    "max_agents_per_identity": PolicyKey(parse=_or_none(_whole(1, 1_000_000))),
    "join_timeout_s": PolicyKey(parse=_whole(6, 600), variable="AGENT_JOIN_TIMEOUT_SECONDS"),
    "restart": PolicyKey(parse=_member(Restart), variable="AGENT_RESTART"),
    "deployment": PolicyKey(parse=_deployment),
    "closes_with_user": PolicyKey(parse=_boolean, variable="AGENT_CLOSES_WITH_USER"),
    "members_may_end": PolicyKey(parse=_member(MemberEnd), variable="MEMBER_END"),
    "members_may_hold": PolicyKey(parse=_boolean),
    "warm": PolicyKey(parse=_whole(0, 1_000)),
    "warm_max": PolicyKey(parse=_or_none(_whole(1, 1_000))),
    "warm_refill_per_minute": PolicyKey(parse=_whole(1, 6_000)),
    "warm_max_age_s": PolicyKey(parse=_whole(60, _WEEK_S)),
}


def values_of(policy: AgentPolicy) -> dict[str, Any]:
    """The effective value of each key; None: no limit, or without effect."""
    learned = policy.learned
    values = {key: getattr(learned if key in LEARNED_KEYS else policy, key, None) for key in KEYS}
    return values | {"ttl_s": AUTO} if learned else values


def shown(value: Any) -> str:
    """A value of `values_of` as text."""
    if value is None:
        return NONE
    if isinstance(value, tuple):
        shares = [f"{share.deployment or '(without)'} {share.weight:g} %" for share in value]
        return ", ".join(shares) or NONE
    return str(value).lower() if isinstance(value, bool) else str(value)
