"""Check of the disk under an SQLite file: persistent, and with working locks."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, ok, warning

_MOUNTS = Path("/proc/self/mountinfo")
#: Lost at a reboot.
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
#: Lost with the container.
_LAYERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
#: SQLite's locks do not work on these, and its write-ahead log cannot be shared.
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "9p", "ceph"})
_CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_ANY_VOLUME = "mount a volume and set DATABASE_URL to a file on it, or use Postgres"


@dataclass(frozen=True, kw_only=True)
class Mount:
    point: Path
    type: str


async def check_disk(context: CheckContext) -> Findings:
    file, volume = context.database_file, context.environ.get("RAILWAY_VOLUME_MOUNT_PATH")
    if file is None:
        yield ok("the data is in Postgres")
    elif context.environ.get("DYNO"):
        yield warning(
            f"{file} is on a Heroku dyno's disk, erased daily and at each deployment",
            "heroku addons:create heroku-postgresql   (it sets DATABASE_URL)",
        )
    elif _is_on_railway(context) and not (volume and file.absolute().is_relative_to(volume)):
        yield warning(
            f"{file} is not on a Railway volume: each deployment starts with an empty database",
            "railway volume add --mount-path /data   and unset DATABASE_URL: its default is on the volume",
        )
    else:
        yield await asyncio.to_thread(_examine_mount, file)


def _examine_mount(file: Path) -> Finding:
    mount = find_mount(file, _MOUNTS.read_text()) if _MOUNTS.exists() else None
    if mount is None:
        return ok(f"{file}: the type of its disk is unknown on this system")
    if mount.type in _MEMORY:
        return warning(
            f"{file} is in memory ({mount.type} on {mount.point}): a reboot erases it", _ANY_VOLUME
        )
    if mount.type in _NETWORK:
        return warning(
            f"{file} is on a network file system ({mount.type}), where SQLite's locks do not work",
            "use a local disk or Postgres",
        )
    if mount.type in _LAYERS and any(mark.exists() for mark in _CONTAINERS):
        return warning(
            f"{file} is in the container's own layer, which is deleted with the container", _ANY_VOLUME
        )
    return ok(f"{file} is on {mount.type}, mounted at {mount.point}")


def find_mount(file: Path, mountinfo: str) -> Mount | None:
    """The mount of a file, from Linux's table (proc_pid_mountinfo(5)); a later mount hides an earlier one."""
    # The file need not exist: its folder counts.
    place = file.resolve()
    best: Mount | None = None
    for line in mountinfo.splitlines():
        fields, separator, rest = line.partition(" - ")
        if not separator:
            continue
        point = Path(fields.split()[4].replace("\\040", " "))
        if place.is_relative_to(point) and (best is None or point.is_relative_to(best.point)):
            best = Mount(point=point, type=rest.split()[0])
    return best


def _is_on_railway(context: CheckContext) -> bool:
    return any(name in context.environ for name in ("RAILWAY_ENVIRONMENT_NAME", "RAILWAY_PROJECT_ID"))
