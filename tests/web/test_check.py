"""What `npm run check` says of web/: the format, the types, and the tests in Vitest."""

from devstack.demo_assets import WEB
from devstack.npm import installed


def test_the_check_of_web_passes() -> None:
    with installed(WEB) as npm:
        said = npm.run("run", "--silent", "check")
    assert "Test Files" in said, said
