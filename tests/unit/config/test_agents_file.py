"""AGENTS_FILE: what each key means, whose value wins, and every problem with its line."""

import re
from pathlib import Path

import pytest

from app.config.agents import AgentPolicy, LearnedTtl, MemberEnd
from app.config.agents_file import AgentsFile, AgentsFileError, Running, parse_agents_file, read_agents_file
from app.config.policy_keys import KEYS, values_of
from app.config.settings import Config, ConfigError, load_config
from app.lifecycle import Restart, Share

ENVIRON = {
    "LIVEKIT_URL": "wss://example.livekit.cloud",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "a-secret-of-at-least-thirty-two-characters",
    "AGENT_NAME": "support, caller, my.bot",
}
NAMES = ("support", "caller", "my.bot")
DEFAULT = AgentPolicy(ttl_s=300, join_timeout_s=15)
MANUAL = (Path(__file__).parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")

FULL = """\
[agents.support]
ttl_s = "auto"
ttl_min_s = 20
ttl_max_s = 900
ttl_keep = 0.9
unvisited_ttl_s = 60
phone_ttl_s = 0
max_session_s = 1800
warn_before_s = 30
max_agents = 50
max_agents_per_identity = 2
join_timeout_s = 45
restart = "never"
deployment = [{name = "v2", weight = 10}, {name = ""}]
closes_with_user = false
members_may_end = "if_empty"
members_may_hold = true
warm = 2
warm_max = 3
warm_refill_per_minute = 10
warm_max_age_s = 900
"""


def parse(text: str) -> AgentsFile:
    return parse_agents_file(text, "agents.toml", NAMES)


def policy(text: str, name: str = "support", environment: AgentPolicy = DEFAULT) -> AgentPolicy:
    return parse(text).policies(NAMES, environment)[name]


def problems(text: str) -> list[str]:
    with pytest.raises(AgentsFileError) as error:
        parse(text)
    return error.value.problems


def load(folder: Path, text: str, **environ: str) -> Config:
    path = folder / "agents.toml"
    path.write_text(text, encoding="utf-8")
    return load_config({**ENVIRON, "AGENTS_FILE": str(path), **environ})


# What it means


def test_every_key_reaches_the_policy() -> None:
    assert policy(FULL) == AgentPolicy(
        ttl_s=300,
        learned=LearnedTtl(ttl_min_s=20, ttl_max_s=900, ttl_keep=0.9),
        unvisited_ttl_s=60,
        phone_ttl_s=0,
        max_session_s=1_800,
        warn_before_s=30,
        max_agents=50,
        max_agents_per_identity=2,
        join_timeout_s=45,
        restart=Restart.NEVER,
        deployment=(Share(deployment="v2", weight=10), Share(deployment="", weight=90)),
        closes_with_user=False,
        members_may_end=MemberEnd.IF_EMPTY,
        members_may_hold=True,
        warm=2,
        warm_max=3,
        warm_refill_per_minute=10,
        warm_max_age_s=900,
    )
    assert set(re.findall(r"^(\w+) =", FULL, re.MULTILINE)) == set(KEYS), "FULL has every key"
    assert policy(FULL, "caller") == DEFAULT


def test_an_agent_wins_over_the_defaults_and_these_over_the_environment() -> None:
    text = "[defaults]\nttl_s = 60\nrestart = 'always'\n[agents.support]\nttl_s = 5\n"
    environment = AgentPolicy(ttl_s=300, join_timeout_s=20, restart=Restart.NEVER)
    support, caller = (policy(text, name, environment) for name in ("support", "caller"))
    assert (support.ttl_s, caller.ttl_s) == (5, 60)
    assert {support.restart, caller.restart} == {Restart.ALWAYS}
    assert {support.join_timeout_s, caller.join_timeout_s} == {20}


@pytest.mark.parametrize(
    ("text", "ttl_s", "is_learned"),
    [
        ('[agents.support]\nttl_s = "auto"', 300, True),
        ('[defaults]\nttl_s = 600\n[agents.support]\nttl_s = "auto"', 600, True),
        ('[defaults]\nttl_s = "auto"', 300, True),
        ('[defaults]\nttl_s = "auto"\n[agents.support]\nttl_s = 45', 45, False),
        ('[defaults]\nttl_s = "auto"\nttl_max_s = 200', 200, True),
        ('[defaults]\nttl_s = "auto"\nttl_min_s = 400', 400, True),
        # Outside of its bounds only what is learned is bounded.
        ("[defaults]\nttl_max_s = 200", 300, False),
    ],
)
def test_until_enough_was_learned_the_ttl_is_that_of_the_level_below(
    text: str,
    ttl_s: int,
    is_learned: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    found = policy(text)
    assert (found.ttl_s, found.learned is not None) == (ttl_s, is_learned)


@pytest.mark.parametrize(
    "key", ["unvisited_ttl_s", "phone_ttl_s", "max_session_s", "max_agents", "max_agents_per_identity"]
)
def test_an_agent_can_be_without_a_limit_of_the_defaults(key: str) -> None:
    text = f'[defaults]\n{key} = 7\n[agents.support]\n{key} = "none"'
    assert values_of(policy(text))[key] is None
    assert values_of(policy(text, "caller"))[key] == 7


@pytest.mark.parametrize(
    ("entries", "weights"),
    [
        ("", []),
        ('{name = "a"}', [100]),
        ('{name = "a", weight = 10}, {name = "b"}', [10, 90]),
        ('{name = "a", weight = 10}, {name = "b"}, {name = "c"}', [10, 45, 45]),
        ('{name = "a", weight = 100}, {name = "b"}', [100, 0]),
        (
            '{name = "a", weight = 33.3}, {name = "b", weight = 33.3}, {name = "c", weight = 33.4}',
            [33.3, 33.3, 33.4],
        ),
    ],
)
def test_what_has_no_weight_shares_what_is_left(entries: str, weights: list[float]) -> None:
    found = policy(f"[defaults]\ndeployment = [{entries}]").deployment
    assert [share.weight for share in found] == weights


def test_what_runs_keeps_its_policy_unless_the_file_says_otherwise() -> None:
    assert parse("").running is Running.KEEP
    assert parse('running = "update"').running is Running.UPDATE


# Problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ttl_s = 5", "1: ttl_s is not a key of the file; it belongs into [defaults] or [agents.<name>]"),
        ("[default]", "1: default is not a key of the file; did you mean defaults?"),
        ("running = true", '1: running must be one of "keep", "update"'),
        ("agents = 1", "1: agents must be tables such as [agents.<name>]"),
        ("[agents]\nsupport = 1", "2: agents.support must be a table: [agents.support]"),
        ("\n[agents.suport]", "2: [agents.suport] is not one of AGENT_NAME; did you mean support?"),
        ("[agents.xyzzy]", "1: [agents.xyzzy] is not one of AGENT_NAME"),
        (
            "[agents.my.bot]\nttl_s = 1",
            '1: [agents.my] is not one of AGENT_NAME; did you mean [agents."my.bot"]?',
        ),
        ("[defaults]\nttl = 5", "2: [defaults] ttl is not a key; did you mean ttl_s?"),
        (
            "[defaults]\nmax_session = 5",
            "2: [defaults] max_session is not a key; did you mean max_session_s?",
        ),
        (
            "[defaults]\nMEMBER_END = 'never'",
            "2: [defaults] MEMBER_END is not a key; did you mean members_may_end?",
        ),
        ("[defaults]\nxyzzy = 5", "2: [defaults] xyzzy is not a key"),
        (
            "[agents]\nsupport = {ttl_s = 5, phone_ttl = 0}",
            "2: [agents.support] phone_ttl is not a key; did you mean phone_ttl_s?",
        ),
        (
            "[defaults]\nwarn_before_s = 30\n\n[agents.support]\nmax_session_s = 20",
            "5: [agents.support] warn_before_s (30) must be less than max_session_s (20)",
        ),
        (
            "[defaults]\nwarn_before_s = 30\nmax_session_s = 30\n[agents.support]\n[agents.caller]",
            "2: [defaults] warn_before_s (30) must be less than max_session_s (30)",
        ),
        (
            "[agents.support]\nwarm = 3\nwarm_max = 2",
            "2: [agents.support] warm (3) must not be more than warm_max (2)",
        ),
        (
            "[defaults]\nmax_agents = 1\n[agents.support]\nwarm = 2",
            "4: [agents.support] warm (2) must not be more than max_agents (1)",
        ),
        ("[defaults]\nttl_max_s = 10", "2: [defaults] ttl_min_s (30) must not be more than ttl_max_s (10)"),
        (
            '[defaults]\ndeployment = [\n{name = "a", wieght = 1}]',
            "2: [defaults] deployment has in entry 1 the unknown key wieght; did you mean weight?",
        ),
        (
            '[defaults]\ndeployment = [{name = "a"}, {name = "a"}]',
            "2: [defaults] deployment names a deployment twice",
        ),
        (
            '[defaults]\ndeployment = [{name = "a", weight = 60}, {name = "b", weight = 60}]',
            "2: [defaults] deployment has weights that add up to 120, not 100",
        ),
        (
            '[defaults]\ndeployment = [{name = "a", weight = 10}, {name = "b", weight = 20}]',
            "2: [defaults] deployment has weights that add up to 30, not 100",
        ),
        ("\n[defaults]\nttl_s 5", "3: not TOML: Expected '=' after a key in a key/value pair"),
        ("[defaults]\nttl_s = 5\nttl_s = 6", "3: not TOML: Cannot overwrite a value"),
    ],
)
def test_a_problem_has_its_line_and_the_nearest_name(text: str, problem: str) -> None:
    assert problems(text) == [f"agents.toml:{problem}"]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("ttl_s", ["0", "604801", "true", "1.5", '"300"', '"Auto"', "[]", "nan", "'none'"]),
        ("ttl_min_s", ["0", '"auto"']),
        ("ttl_keep", ["0", "1.1", "nan", "true", '"0.9"']),
        ("unvisited_ttl_s", ["0", "-1", "false"]),
        ("phone_ttl_s", ["-1", "604801"]),
        ("max_session_s", ["0", '"1h"']),
        ("warn_before_s", ["-1", '"none"']),
        ("max_agents", ["0", "1000001", "1e3"]),
        ("max_agents_per_identity", ["0"]),
        ("join_timeout_s", ["5", "601"]),
        ("restart", ['"sometimes"', "true", "1"]),
        (
            "deployment",
            [
                '"v1"',
                '["v1"]',
                "[{}]",
                "[{name = 1}]",
                "[{name = 'a', weight = -1}]",
                "[{name = 'a', weight = true}]",
            ],
        ),
        ("closes_with_user", ['"true"', "1"]),
        ("members_may_end", ["true", '"no"']),
        ("members_may_hold", ["1", '"never"']),
    ],
)
def test_a_wrong_value_is_a_problem_with_its_key(key: str, values: list[str]) -> None:
    for value in values:
        (problem,) = problems(f"[agents.support]\n{key} = {value}")
        assert problem.startswith(f"agents.toml:2: [agents.support] {key} "), value


def test_all_problems_of_environment_and_file_are_reported_together(tmp_path: Path) -> None:
    text = '[defaults]\nttl = 5\nrestart = "x"\n[agents.suport]\nwarn_before = 1\n'
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text, PORT="x", PUBLISHER_AGENTS="nobody", LIVEKIT_URL="")
    assert [problem.partition(" ")[0] for problem in error.value.problems] == [
        "LIVEKIT_URL",
        "PORT",
        "PUBLISHER_AGENTS",
        "agents.toml:2:",
        "agents.toml:3:",
        "agents.toml:4:",
        "agents.toml:5:",
    ]


def test_without_valid_agent_names_the_rest_of_the_file_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "[agents.any]\nttl = 5\n", AGENT_NAME="")
    assert error.value.problems == [
        "AGENT_NAME is required",
        "agents.toml:2: [agents.any] ttl is not a key; did you mean ttl_s?",
    ]


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# \xe9")
    for path, problem in (
        (tmp_path / "none.toml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "latin", "not a text in UTF-8"),
    ):
        with pytest.raises(ConfigError, match=problem) as error:
            load_config({**ENVIRON, "AGENTS_FILE": str(path)})
        (found,) = error.value.problems
        assert found.startswith("AGENTS_FILE ")
        assert str(path) in found


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "agents.toml"
    path.write_bytes(b"\xef\xbb\xbf[defaults]\r\nttl_s = 5\r\n")
    assert read_agents_file(path, NAMES).policies(NAMES, DEFAULT)["caller"].ttl_s == 5


def test_nesting_without_end_is_a_problem_not_a_crash() -> None:
    assert "is not TOML" in problems("x = " + "[" * 100_000)[0]


# Where it comes from


def test_every_value_says_where_it_comes_from(tmp_path: Path) -> None:
    text = "[defaults]\njoin_timeout_s = 20\n[agents.support]\nttl_s = 5\n"
    config = load(tmp_path, text, AGENT_TTL_SECONDS="60", AGENT_RESTART="never", MEMBER_END=" ")
    sources = config.policy_sources["support"]
    assert {key: sources[key] for key in ("ttl_s", "join_timeout_s", "restart", "members_may_end")} == {
        "ttl_s": "agents.toml:4",
        "join_timeout_s": "agents.toml:2",
        "restart": "AGENT_RESTART",
        "members_may_end": "default",
    }
    assert config.policy_sources["caller"]["ttl_s"] == "AGENT_TTL_SECONDS"
    assert set(sources) == set(KEYS) == set(values_of(config.policies["support"]))


def test_without_a_file_the_variables_are_the_policy_of_every_agent() -> None:
    config = load_config({**ENVIRON, "AGENT_TTL_SECONDS": "60"})
    assert config.policies == dict.fromkeys(NAMES, config.default_policy)
    assert config.default_policy.ttl_s == 60
    assert config.policy_sources["caller"]["ttl_s"] == "AGENT_TTL_SECONDS"


def test_a_room_outlives_the_longest_ttl_of_any_agent(tmp_path: Path) -> None:
    text = '[agents.support]\nttl_s = "auto"\nttl_max_s = 4000\n[agents.caller]\nunvisited_ttl_s = 2000'
    assert load(tmp_path, text).room_timeout_s > 4_000


# The manual


def test_the_manual_has_every_key_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", MANUAL, re.MULTILINE))
    defaults = {key.variable for key in KEYS.values() if key.variable}
    assert [key for key in rows if key in KEYS] == list(KEYS)
    assert defaults == {rows[key].strip("`") for key, one in KEYS.items() if one.variable}


def test_the_example_of_the_manual_is_valid() -> None:
    example, *_ = re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL)
    names = set(re.findall(r"^\[agents\.([\w-]+)\]", example, re.MULTILINE))
    file = parse_agents_file(example, "agents.toml", names)
    assert len(file.policies(names, DEFAULT)) >= 2
