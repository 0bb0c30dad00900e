"""A Dockerfile carried out without docker, as far as that goes: each stage is a folder instead of a root.

What is not imitated: the base images (this machine's Python and uv stand for them), network, capabilities.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    name: str
    arguments: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.arguments)

    @property
    def command(self) -> list[str]:
        """Of the JSON form, which is the only one that needs no shell."""
        parsed: list[str] = json.loads(self.arguments[self.arguments.index("[") :])
        return parsed


@dataclass
class Stage:
    """What a stage has come to."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    workdir: Path = Path("/")
    user: str = "root"
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"

    def place(self, path: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.root / (self.workdir / path).relative_to("/")

    def outer_environ(self) -> dict[str, str]:
        """Its environment, with the image's own folders where they are here."""
        return {name: value.replace("/srv", str(self.root / "srv")) for name, value in self.environ.items()}


def read(file: Path) -> list[Instruction]:
    text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#"))
    joined = text.replace("\\\n", " ").splitlines()
    parts = (line.split(maxsplit=1) for line in joined if line.strip())
    return [Instruction(name, rest) for name, rest in parts]


def is_sent(path: str, dockerignore: Path) -> bool:
    """Whether docker would send the file to the builder; the last rule that fits decides."""
    sent = True
    for rule in dockerignore.read_text().split("\n"):
        pattern = rule.removeprefix("!").removeprefix("**/")
        if not rule or rule.startswith("#"):
            continue
        if any(fnmatch(part, pattern) for part in (path, *map(str, Path(path).parents), *Path(path).parts)):
            sent = rule.startswith("!")
    return sent


class Builder:
    """Builds stages below `folder` from the files of `context`; `tools` stand for images from elsewhere."""

    def __init__(self, context: Path, folder: Path, python: Path, tools: Mapping[str, Path]) -> None:
        self._context = context
        self._python = python
        self._folder = folder
        self._tools = tools
        self.stages: dict[str, Stage] = {}

    def build(self, target: str) -> Stage:
        for instruction in self._needed(target):
            if instruction.name == "FROM":
                self._begin(instruction.words)
            else:
                getattr(self, f"_{instruction.name.lower()}")(instruction)
        return self._stage

    def _needed(self, target: str) -> list[Instruction]:
        """What docker carries out for one target: its stage, and those that it is made from."""
        blocks: dict[str, list[Instruction]] = {}
        for instruction in read(self._context / "Dockerfile"):
            if instruction.name == "FROM":
                blocks[instruction.words[-1]] = []
                name = instruction.words[-1]
            blocks[name].append(instruction)
        wanted, left = {target}, [target]
        while left:
            for instruction in blocks[left.pop()]:
                words = [word.removeprefix("--from=") for word in instruction.words[:2]]
                found = {word for word in words if word in blocks and word not in self._tools} - wanted
                wanted |= found
                left += found
        return [one for name, block in blocks.items() if name in wanted for one in block]

    def _begin(self, words: list[str]) -> None:
        base, name = words[0], words[-1]
        root = self._folder / name
        if base in self.stages:
            before = self.stages[base]
            shutil.copytree(before.root, root, symlinks=True)
            self._stage = Stage(root, dict(before.environ), before.workdir, before.user)
        else:
            root.mkdir()
            self._stage = Stage(root)
        self.stages[name] = self._stage

    def _workdir(self, instruction: Instruction) -> None:
        self._stage.workdir /= instruction.arguments
        self._stage.place(".").mkdir(parents=True, exist_ok=True)

    def _env(self, instruction: Instruction) -> None:
        for pair in instruction.words:
            name, _, value = pair.partition("=")
            self._stage.environ[name] = value.replace(f"${name}", os.environ.get(name, ""))

    def _copy(self, instruction: Instruction) -> None:
        options = [word for word in instruction.words if word.startswith("--")]
        *sources, target = [word for word in instruction.words if not word.startswith("--")]
        for source in sources:
            place = self._stage.place(target)
            if options:
                name = options[0].removeprefix("--from=")
                found = self._tools.get(name) or self.stages[name].place(source)
            else:
                found = self._context / source
                assert is_sent(source, self._context / ".dockerignore"), f"{source} is not sent to docker"
            place = place / found.name if target.endswith("/") else place
            place.parent.mkdir(parents=True, exist_ok=True)
            if found.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True, ignore=ignored)
            else:
                shutil.copy(found, place)

    def _run(self, instruction: Instruction) -> None:
        command = instruction.arguments
        if os.geteuid() != 0:
            command = command.replace(" -o 10001 -g 10001", "")
        environ = os.environ | self._stage.outer_environ()
        environ["PATH"] = f"{self._stage.root}/usr/local/bin:{environ['PATH']}"
        environ["UV_PYTHON"] = str(self._python)
        environ.pop("VIRTUAL_ENV", None)
        subprocess.run(  # noqa: S602 - the Dockerfile is ours
            command, shell=True, check=True, cwd=self._stage.place("."), env=environ, capture_output=True
        )

    def _user(self, instruction: Instruction) -> None:
        self._stage.user = instruction.arguments

    def _cmd(self, instruction: Instruction) -> None:
        self._stage.command = instruction.command

    def _healthcheck(self, instruction: Instruction) -> None:
        self._stage.healthcheck = instruction.command

    def _stopsignal(self, instruction: Instruction) -> None:
        self._stage.stop_signal = instruction.arguments

    def _expose(self, instruction: Instruction) -> None:
        assert instruction.arguments == self._stage.environ["PORT"]
