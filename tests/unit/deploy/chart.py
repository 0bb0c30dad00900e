"""The chart in deploy/helm/, as Helm renders it."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any, TypeAlias

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy/helm"
#: The oldest Kubernetes of Chart.yaml and the newest with schemas.
OLDEST, NEWEST = "1.30", "1.37"
RELEASE, NAMESPACE = "x", "voice"
#: Values of the cases that are rendered; `everything` has each value that adds or changes an object.
CASES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").iterdir())}

Object: TypeAlias = dict[str, Any]
Values: TypeAlias = Path | Object


@dataclass(frozen=True)
class Helm:
    program: Path
    #: For values, and for what Helm keeps.
    folder: Path

    def run(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603 - Helm and our chart
            [self.program, *arguments],
            cwd=self.folder,
            # A cluster of whoever runs the tests is not asked anything.
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": os.devnull},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def output(self, *arguments: str | Path) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def render(self, *values: Values, chart: Path = CHART, kubernetes: str = OLDEST) -> list[Object]:
        text = self.output("template", *self._arguments(values, chart, kubernetes))
        return [found for found in yaml.safe_load_all(text) if found]

    def refusal(self, *values: Values) -> str:
        done = self.run("template", *self._arguments(values, CHART, OLDEST))
        assert done.returncode != 0, done.stdout
        return done.stderr

    def notes(self, *values: Values) -> str:
        """NOTES.txt. Helm shows it only where there is a cluster, so here it is the text of an object."""
        copy = self.folder / "chart-with-notes"
        shutil.copytree(CHART, copy, dirs_exist_ok=True)
        text = (CHART / "templates/NOTES.txt").read_text()
        notes = f"kind: Notes\nmetadata: {{name: notes}}\ntext: |\n{indent(text, '  ')}"
        (copy / "templates/notes.yaml").write_text(notes)
        return str(the(self.render(*values, chart=copy), "Notes")["text"])

    def lint(self, *values: Values) -> None:
        self.output("lint", "--strict", "--kube-version", OLDEST, CHART, *self._files(values))

    def _arguments(self, values: Sequence[Values], chart: Path, kubernetes: str) -> list[str | Path]:
        return [
            *(RELEASE, chart, "--namespace", NAMESPACE, "--kube-version", kubernetes),
            *self._files(values),
        ]

    def _files(self, values: Sequence[Values]) -> Iterator[str | Path]:
        for number, given in enumerate(values):
            file = given if isinstance(given, Path) else self.folder / f"values-{number}.yaml"
            if not isinstance(given, Path):
                file.write_text(yaml.safe_dump(given))
            yield from ("--values", file)


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    return [found for found in objects if found["kind"] in kinds]


def the(objects: Sequence[Object], kind: str, name: str | None = None) -> Object:
    """The only object of that kind, or of that kind and name."""
    (found,) = (one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"]))
    return found


def pods(objects: Sequence[Object]) -> dict[str, Object]:
    """What pods are made of, `{metadata, spec}`, by the name of their owner."""
    owners = of_kind(objects, "Deployment", "StatefulSet")
    made = {owner["metadata"]["name"]: owner["spec"]["template"] for owner in owners}
    return made | {pod["metadata"]["name"]: pod for pod in of_kind(objects, "Pod")}


def service_of(objects: Sequence[Object]) -> Object:
    """The Deployment of the service."""
    (found,) = (
        one
        for one in of_kind(objects, "Deployment")
        if one["metadata"]["labels"]["app.kubernetes.io/component"] == "service"
    )
    return found


def container(pod: Object) -> Object:
    """The only container of `{metadata, spec}`."""
    (found,) = pod["spec"]["containers"]
    return dict(found)


def env(pod: Object) -> dict[str, Object]:
    """The variables of the container, by name, in their order."""
    entries = container(pod)["env"]
    named = {entry["name"]: entry for entry in entries}
    assert len(named) == len(entries)
    return named
