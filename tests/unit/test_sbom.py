"""What `.ci/sbom` writes: valid bills of materials, of what is installed and of nothing else."""

import json
import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[2]
#: Each bill, and where the direct dependencies of its subject are declared.
BILLS = {
    "agent-lifecycle": "pyproject.toml",
    "reusable-agent": "agent/pyproject.toml",
    "agent-lifecycle-client": "client/pyproject.toml",
    "web": "web/package.json",
}


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sbom")
    command = ["bash", str(ROOT / ".ci/sbom"), str(folder)]
    subprocess.run(command, check=True, timeout=120)  # noqa: S603 - ours
    return {file.name.removesuffix(".cdx.json"): json.loads(file.read_text()) for file in folder.iterdir()}


def direct_dependencies(manifest: Path) -> set[str]:
    if manifest.suffix == ".json":
        package = json.loads(manifest.read_text())
        return set(package["peerDependencies"]) | set(package["devDependencies"])
    project = tomllib.loads(manifest.read_text())["project"]
    given = [*project["dependencies"], *chain(*project.get("optional-dependencies", {}).values())]
    return {re.split(r"[^\w.-]", one)[0] for one in given}


@pytest.mark.parametrize(("subject", "manifest"), BILLS.items())
def test_a_bill_is_valid_and_has_what_is_installed(
    bills: dict[str, Any], subject: str, manifest: str
) -> None:
    bill = bills[subject]
    version = SchemaVersion.from_version(bill["specVersion"])
    assert JsonStrictValidator(version).validate_str(json.dumps(bill)) is None
    names = {"/".join(filter(None, (one.get("group"), one["name"]))) for one in bill["components"]}
    assert direct_dependencies(ROOT / manifest) <= names
    assert all(one["purl"].startswith("pkg:") for one in bill["components"])
    assert "pytest" not in names
