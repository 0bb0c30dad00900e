"""AGENTS_FILE: the policies of agents as a TOML file, with every problem and its line."""

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from app.config.agents import AgentPolicy, LearnedTtl
from app.config.policy_keys import AUTO, KEYS, LEARNED_KEYS, nearest, nearest_key
from app.config.toml_lines import KeyLines, KeyPath

#: Key, value.
Level: TypeAlias = Mapping[str, Any]

_TOP_LEVEL = ("running", "defaults", "agents")


class Running(StrEnum):
    """Whether agents that run keep the policy that they were made with when the file changes."""

    KEEP = "keep"
    UPDATE = "update"


class AgentsFileError(Exception):
    """All problems of the file, each with its line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class AgentsFile:
    """A file without problems; by default one that says nothing."""

    name: str = "AGENTS_FILE"
    running: Running = Running.KEEP
    defaults: Level = field(default_factory=dict)
    agents: Mapping[str, Level] = field(default_factory=dict)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def policies(self, agent_names: Iterable[str], environment: AgentPolicy) -> dict[str, AgentPolicy]:
        """`environment`: what the variables say of all agents."""
        return {name: _policy(self.agents.get(name, {}), self.defaults, environment) for name in agent_names}

    def sources(self, agent_names: Iterable[str], variables: Collection[str]) -> dict[str, dict[str, str]]:
        """Where the value of each key comes from, such as `agents.toml:12`."""
        return {name: {key: self._source(name, key, variables) for key in KEYS} for name in agent_names}

    def _source(self, agent_name: str, key: str, variables: Collection[str]) -> str:
        for path in (("agents", agent_name, key), ("defaults", key)):
            if path in self.lines:
                return f"{self.name}:{self.lines[path]}"
        variable = KEYS[key].variable
        return variable if variable and variable in variables else "default"


def read_agents_file(path: Path, agent_names: Collection[str]) -> AgentsFile:
    """Read and check the file; `agent_names` empty: they are not known, and not checked.

    Raises: AgentsFileError: naming every problem, not only the first.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise AgentsFileError([f"AGENTS_FILE is not a text in UTF-8: {path}"]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AgentsFileError([f"AGENTS_FILE cannot be read: {path}: {reason}"]) from None
    return parse_agents_file(text, path.name, agent_names)


def parse_agents_file(text: str, name: str, agent_names: Collection[str]) -> AgentsFile:
    """See `read_agents_file`; `name` stands in problems and sources."""
    try:
        lines = KeyLines(text)
    except (ValueError, RecursionError) as error:
        raise AgentsFileError([_syntax_problem(name, text, str(error))]) from None
    checker = _Checker(name, lines, agent_names)
    file = checker.check(tomllib.loads(text))
    if checker.problems:
        raise AgentsFileError([f"{name}:{line}: {text}" for line, text in sorted(checker.problems)])
    return file


def _syntax_problem(name: str, text: str, message: str) -> str:
    """The first one: what follows it cannot be read."""
    said = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message, re.DOTALL)
    if not said:
        return f"{name} is not TOML: {message}"
    return f"{name}:{said[2] or len(text.splitlines())}: not TOML: {said[1]}"


class _Checker:
    """Collects the values of the file, and its problems by line."""

    def __init__(self, name: str, lines: KeyLines, agent_names: Collection[str]) -> None:
        self._name = name
        self._lines = lines
        self._agent_names = agent_names
        self._lines_of_values: dict[KeyPath, int] = {}
        self.problems: set[tuple[int, str]] = set()

    def check(self, content: Mapping[str, Any]) -> AgentsFile:
        for key in content:
            if key not in _TOP_LEVEL:
                self._reject_at_top(key)
        defaults = self._level(("defaults",), content.get("defaults", {}))
        agents = self._agents(content.get("agents", {}))
        for path, level in ((("defaults",), {}), *((("agents", one), agents[one]) for one in agents)):
            for keys, problem in _contradictions({**defaults, **level}):
                self._note_contradiction(path, level, keys, problem)
        return AgentsFile(
            name=self._name,
            running=self._running(content.get("running", Running.KEEP)),
            defaults=defaults,
            agents=agents,
            lines=self._lines_of_values,
        )

    def _note(self, path: KeyPath, problem: str) -> None:
        self.problems.add((self._lines.line_of(path), problem))

    def _reject_at_top(self, key: str) -> None:
        place = "; it belongs into [defaults] or [agents.<name>]" if key in KEYS else nearest(key, _TOP_LEVEL)
        self._note((key,), f"{key} is not a key of the file{place}")

    def _running(self, value: object) -> Running:
        try:
            return Running(str(value))
        except ValueError:
            self._note(("running",), 'running must be one of "keep", "update"')
            return Running.KEEP

    def _agents(self, tables: object) -> dict[str, Level]:
        if not isinstance(tables, dict):
            self._note(("agents",), "agents must be tables such as [agents.<name>]")
            return {}
        agents = {}
        for name, table in tables.items():
            path = ("agents", name)
            if not self._agent_names or name in self._agent_names:
                agents[name] = self._level(path, table)
            elif dotted := next((one for one in self._agent_names if one.startswith(f"{name}.")), None):
                # Without quotation marks these are tables in tables, whose keys would be problems too.
                self._note(
                    path, f'[agents.{name}] is not one of AGENT_NAME; did you mean [agents."{dotted}"]?'
                )
            else:
                self._note(
                    path, f"[agents.{name}] is not one of AGENT_NAME{nearest(name, self._agent_names)}"
                )
                self._level(path, table)
        return agents

    def _level(self, path: tuple[str, ...], table: object) -> Level:
        title = ".".join(path)
        if not isinstance(table, dict):
            self._note(path, f"{title} must be a table: [{title}]")
            return {}
        level = {}
        for key, value in table.items():
            if key not in KEYS:
                self._note((*path, key), f"[{title}] {key} is not a key{nearest_key(key)}")
                continue
            try:
                level[key] = KEYS[key].parse(value)
            except ValueError as problem:
                self._note((*path, key), f"[{title}] {key} {problem}")
            self._lines_of_values[*path, key] = self._lines.line_of((*path, key))
        return level

    def _note_contradiction(
        self, path: tuple[str, ...], level: Level, keys: tuple[str, ...], problem: str
    ) -> None:
        """Noted where the agent itself says one of the two; among the defaults it is noted once."""
        own = [key for key in keys if key in level]
        path = path if own else ("defaults",)
        given = own or [key for key in keys if ("defaults", key) in self._lines_of_values]
        self._note((*path, given[0]), f"[{'.'.join(path)}] {problem}")


def _contradictions(level: Level) -> Iterator[tuple[tuple[str, ...], str]]:
    """Values that exclude each other: their keys and what is wrong."""
    longest, warning = level.get("max_session_s"), level.get("warn_before_s", 0)
    if longest is not None and warning >= longest:
        yield (
            ("warn_before_s", "max_session_s"),
            f"warn_before_s ({warning}) must be less than max_session_s ({longest})",
        )
    warm, warm_max = level.get("warm", 0), level.get("warm_max")
    if warm_max is not None and warm > warm_max:
        yield ("warm", "warm_max"), f"warm ({warm}) must not be more than warm_max ({warm_max})"
    max_agents = level.get("max_agents")
    if max_agents is not None and warm > max_agents:
        yield ("warm", "max_agents"), f"warm ({warm}) must not be more than max_agents ({max_agents})"
    bounds = _bounds(level)
    if bounds.ttl_min_s > bounds.ttl_max_s:
        yield (
            ("ttl_min_s", "ttl_max_s"),
            f"ttl_min_s ({bounds.ttl_min_s}) must not be more than ttl_max_s ({bounds.ttl_max_s})",
        )


def _bounds(level: Level) -> LearnedTtl:
    return LearnedTtl(**{key: level[key] for key in LEARNED_KEYS if key in level})


def _policy(own: Level, defaults: Level, environment: AgentPolicy) -> AgentPolicy:
    level = {**defaults, **own}
    fixed_s = next(
        (one["ttl_s"] for one in (own, defaults) if one.get("ttl_s", AUTO) != AUTO), environment.ttl_s
    )
    learned = _bounds(level) if level.get("ttl_s") == AUTO else None
    if learned:
        fixed_s = min(max(fixed_s, learned.ttl_min_s), learned.ttl_max_s)
    fields = {key: value for key, value in level.items() if key not in ("ttl_s", *LEARNED_KEYS)}
    return replace(environment, ttl_s=fixed_s, learned=learned, **fields)
