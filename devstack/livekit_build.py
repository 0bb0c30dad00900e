"""The livekit-server binary: found on this machine, or built once from the pinned Go module and cached."""

from pathlib import Path

from devstack.go_build import GoProgram

VERSION = "v1.13.5"

find_or_build = GoProgram(
    name="livekit-server",
    version=VERSION,
    package="github.com/livekit/livekit-server/cmd/server",
    module=Path(__file__).parent / "livekit",
    variable="LIVEKIT_SERVER_BIN",
    takes="2 minutes",
).find_or_build
