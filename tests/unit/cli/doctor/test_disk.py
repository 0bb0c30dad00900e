"""The disk of a file, from Linux's table of mounts, and the finding for each kind."""

from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from app.cli.doctor.context import CheckContext
from app.cli.doctor.disk import check_disk, find_mount
from app.cli.doctor.findings import Finding, Verdict
from app.clock import SteadyClock
from app.config.settings import load_config
from app.livekit.client import LiveKitClient

_IN_MEMORY = "/dev/shm/lifecycle.db"  # noqa: S108 - nobody makes it

_MOUNTINFO = """\
22 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/l
23 22 0:21 / /dev rw,nosuid - tmpfs tmpfs rw
24 22 8:1 /vol /data rw,relatime shared:5 master:2 - ext4 /dev/sda1 rw
25 24 0:50 / /data/shared\\040files rw - nfs4 host:/x rw
"""


@pytest.mark.parametrize(
    ("file", "point", "kind"),
    [
        ("/app/data/lifecycle.db", "/", "overlay"),
        ("/data/lifecycle.db", "/data", "ext4"),
        ("/data/shared files/lifecycle.db", "/data/shared files", "nfs4"),
        (_IN_MEMORY, "/dev", "tmpfs"),
        ("/database/lifecycle.db", "/", "overlay"),
    ],
)
def test_the_innermost_mount_counts(file: str, point: str, kind: str) -> None:
    mount = find_mount(Path(file), _MOUNTINFO)
    assert mount
    assert (mount.point, mount.type) == (Path(point), kind)


def test_a_table_without_a_mount_for_the_file_gives_none() -> None:
    assert find_mount(Path("/data/lifecycle.db"), "nonsense\n") is None


async def examine(environ: Mapping[str, str]) -> Finding:
    required = {
        "LIVEKIT_URL": "ws://127.0.0.1:1",
        "LIVEKIT_API_KEY": "key",
        "LIVEKIT_API_SECRET": "dev-secret-of-at-least-32-characters",
        "AGENT_NAME": "agent",
    }
    config = load_config(required | dict(environ))
    async with aiohttp.ClientSession() as http:
        clock = SteadyClock()
        context = CheckContext(
            config=config,
            environ=environ,
            http=http,
            livekit=LiveKitClient(http, config.livekit_url, config.livekit_key, clock),
            clock=clock,
            wait_s=1,
        )
        [finding] = [one async for one in check_disk(context)]
    return finding


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"RAILWAY_PROJECT_ID": "p"}, "not on a Railway volume"),
        (
            {"RAILWAY_PROJECT_ID": "p", "RAILWAY_VOLUME_MOUNT_PATH": "/data", "DATABASE_URL": "/app/x.db"},
            "not on a Railway volume",
        ),
        ({"DYNO": "web.1"}, "a Heroku dyno's disk"),
    ],
)
async def test_a_disk_that_is_not_persistent_is_a_warning(environ: dict[str, str], said: str) -> None:
    finding = await examine(environ)
    assert finding.verdict is Verdict.WARNING
    assert said in finding.message


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_URL": "postgresql://user@host/name", "DYNO": "web.1"},
        {"DATABASE_URL": "/proc/lifecycle.db"},
    ],
)
async def test_a_disk_without_a_known_problem_is_ok(environ: dict[str, str]) -> None:
    assert (await examine(environ)).verdict is Verdict.OK


async def test_a_file_in_memory_is_a_warning() -> None:
    finding = await examine({"DATABASE_URL": _IN_MEMORY})
    assert finding.verdict is Verdict.WARNING
    assert "in memory (tmpfs" in finding.message
