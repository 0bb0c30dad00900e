"""The policy of each agent, as `agent-lifecycle policy` prints it."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from app.config.agents import AgentPolicy
from app.config.agents_file import Running
from app.config.policy_keys import AUTO, LEARNED_KEYS, shown, values_of
from app.config.settings import Config
from app.logs.formats import printable

_RELOADS: Mapping[Running, str] = {
    Running.KEEP: 'a reload changes nothing for agents that run (running = "keep")',
    Running.UPDATE: 'a reload also changes agents that run (running = "update")',
}


def table(config: Config) -> Iterator[str]:
    """For each agent, its effective values and where each comes from."""
    for name, policy in config.policies.items():
        rows = list(_rows(config, name, policy))
        width = max(len(value) for _, value, _ in rows)
        yield printable(name)
        yield from (f"  {key:<24} {value:<{width}}  {source}" for key, value, source in rows)
        yield ""
    if config.agents_file:
        yield f"{config.agents_file}: {_RELOADS[config.running]}"
    else:
        yield "AGENTS_FILE is not set: all agents have the same policy, from the variables"


def summary(config: Config, agent_name: str) -> str:
    """One line: the TTL, and whatever is not a default."""
    rows = _rows(config, agent_name, config.policies[agent_name])
    told = [
        f"{key} {value} from {source}" for key, value, source in rows if key == "ttl_s" or source != "default"
    ]
    return f"policy of {printable(agent_name)}: {', '.join(told)}"


def to_json(config: Config) -> str:
    agents = {
        name: {
            key: {"value": _json(value), "from": config.policy_sources[name][key]}
            for key, value in values_of(policy).items()
        }
        for name, policy in config.policies.items()
    }
    told: Mapping[str, Any] = {
        "agentsFile": str(config.agents_file) if config.agents_file else None,
        "running": config.running,
        "agents": agents,
        #: The TTL of agents whose TTL is learned, until enough is.
        "untilLearned": {name: one.ttl_s for name, one in config.policies.items() if one.learned},
    }
    return msgspec.json.encode(told).decode()


def _json(value: object) -> object:
    """As in the file."""
    if not isinstance(value, tuple):
        return value
    return [{"name": share.deployment, "weight": share.weight} for share in value]


def _rows(config: Config, name: str, policy: AgentPolicy) -> Iterator[tuple[str, str, str]]:
    for key, value in values_of(policy).items():
        if value is None and key in LEARNED_KEYS:
            # It would have no effect.
            continue
        yield key, _text(policy, key, value), config.policy_sources[name][key]


def _text(policy: AgentPolicy, key: str, value: object) -> str:
    if value == AUTO:
        return f"{AUTO} ({policy.ttl_s} until enough is learned)"
    return "the TTL" if value is None and key.endswith("_ttl_s") else shown(value)
