"""What is written for a person: in colour where they look, plain where a log or a pipe takes it."""

from collections.abc import Mapping
from typing import TextIO


class Terminal:
    """Writes lines to a stream, in what it can show."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self._stream = stream
        is_utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
        #: Colour, and signs beyond ASCII. See no-color.org.
        self.is_rich = stream.isatty() and is_utf8 and not environ.get("NO_COLOR")

    def write(self, line: str) -> None:
        text = line if self.is_rich else line.encode("ascii", "backslashreplace").decode()
        self._stream.write(f"{text}\n")
        self._stream.flush()
