"""REQUIRE_ALL=1: a skip, of whatever kind, is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

IN_A_TEST = "def test_it(): pytest.skip('no systemd')"
BY_A_MARK = "@pytest.mark.skip(reason='no systemd')\ndef test_it(): pass"
OF_A_MODULE = "pytest.skip('no systemd', allow_module_level=True)"
KNOWN_TO_FAIL = "@pytest.mark.xfail(strict=True)\ndef test_it(): assert False"


def run(folder: Path, test: str, require_all: str) -> tuple[int, str]:
    (folder / "test_it.py").write_text(f"import pytest\n{test}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "require_all", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        env=os.environ
        | {
            "REQUIRE_ALL": require_all,
            "PYTHONPATH": str(ROOT / "tests"),
            # Nothing else is needed, and most of the time goes into importing it.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("test", [IN_A_TEST, BY_A_MARK, OF_A_MODULE])
def test_a_skip_is_a_failure_that_says_why(tmp_path: Path, test: str) -> None:
    code, said = run(tmp_path, test, "1")
    assert code != 0
    assert "nothing may be skipped with REQUIRE_ALL=1" in said
    assert "no systemd" in said


@pytest.mark.parametrize("test", [IN_A_TEST, BY_A_MARK])
def test_without_it_a_skip_is_a_skip(tmp_path: Path, test: str) -> None:
    code, said = run(tmp_path, test, "")
    assert (code, "1 skipped" in said) == (0, True)


def test_what_is_known_to_fail_is_no_skip(tmp_path: Path) -> None:
    assert run(tmp_path, KNOWN_TO_FAIL, "1")[0] == 0
