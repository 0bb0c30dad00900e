"""Lines of keys in TOML, in all the ways in which it can be written."""

import pytest

from app.config.toml_lines import KeyLines

TEXT = '''\
# 1
running = "keep"

[defaults]            # 4
ttl_s = """
a = 1
[agents.not]
"""
deployment = [        # 9
  {name = "v2", weight = 10},

  # 12
  {name = "v1"},
]
[agents."my.bot"]
'quoted' = { a = {b = 1}, "c d" = 2 }
x."y z".q = 1

  [ agents . plain ]  # 19
  after = 1
agents.dotted = 1
[[agents.list.deployment]]
name = "a"
[[agents.list.deployment]]
[agents.list.deployment.sub]
name = "b"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("running",), 2),
        (("defaults",), 4),
        (("defaults", "ttl_s"), 5),
        (("defaults", "deployment"), 9),
        (("defaults", "deployment", 1, "name"), 9),
        (("agents",), 15),
        (("agents", "my.bot"), 15),
        (("agents", "my.bot", "quoted"), 16),
        (("agents", "my.bot", "quoted", "a", "b"), 16),
        (("agents", "my.bot", "quoted", "c d"), 16),
        (("agents", "my.bot", "x", "y z", "q"), 17),
        (("agents", "plain"), 19),
        (("agents", "plain", "after"), 20),
        (("agents", "plain", "agents", "dotted"), 21),
        (("agents", "list", "deployment", 0, "name"), 23),
        (("agents", "list", "deployment", 1), 24),
        (("agents", "list", "deployment", 1, "sub", "name"), 26),
        # What has no line has that of what is around it.
        (("agents", "my.bot", "absent", "deep"), 15),
        (("absent",), 1),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_key_has_the_line_on_which_it_begins(
    path: tuple[str | int, ...], line: int, newline: str
) -> None:
    assert KeyLines(TEXT.replace("\n", newline)).line_of(path) == line


def test_a_file_of_a_thousand_agents_is_read_at_once() -> None:
    lines = [f'[agents."agent {number}"]\nttl_s = {number}' for number in range(1_000)]
    assert KeyLines("\n".join(lines)).line_of(("agents", "agent 999", "ttl_s")) == 2_000
