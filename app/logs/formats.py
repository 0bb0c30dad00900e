"""The two log formats: JSON for machines, text for a terminal. No field can forge a line."""

import logging
import re
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from app.logs.redaction import RecordCleaner

#: JSON allows these, but they end a line, control a terminal or reverse its text in some readers.
_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_ONE_WORD = re.compile(r"[^\s\"'=]+")


class Form(Protocol):
    def lines(self, record: logging.LogRecord, now: int) -> list[str]:
        """The record as lines; the first can stand alone. Never raises."""


class JsonForm:
    def __init__(self, cleaner: RecordCleaner) -> None:
        self._cleaner = cleaner

    def lines(self, record: logging.LogRecord, now: int) -> list[str]:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(now / 1_000_000, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._cleaner.sentence(record),
        }
        for name, value in self._cleaner.fields(record).items():
            # A field cannot replace one of ours.
            line.setdefault(name, value)
        if exception := self._cleaner.exception(record):
            line["exception"] = exception
        return [_encode(line)]


class TextForm:
    def __init__(self, cleaner: RecordCleaner) -> None:
        self._cleaner = cleaner

    def lines(self, record: logging.LogRecord, now: int) -> list[str]:
        at = datetime.fromtimestamp(now / 1_000_000, UTC).astimezone().strftime("%H:%M:%S")
        words = [f"{at} {record.levelname:<7} {printable(self._cleaner.sentence(record))} "]
        for name, value in self._cleaner.fields(record).items():
            if value is not None:
                words.append(f"{printable(name)}={_quoted(value)}")
        exception = self._cleaner.exception(record) or ""
        return [" ".join(words).rstrip(), *map(printable, exception.split("\n") if exception else ())]


def _encode(line: dict[str, object]) -> str:
    try:
        text = msgspec.json.encode(line).decode()
    except UnicodeEncodeError:
        # Half a surrogate pair, from a file name or a header that is not UTF-8.
        text = msgspec.json.encode(_whole(line)).decode()
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _whole(value: object) -> object:
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _quoted(value: object) -> str:
    text = printable(str(value))
    return text if _ONE_WORD.fullmatch(text) else '"' + text.replace('"', r"\"") + '"'


def printable(text: str) -> str:
    """Escape what would control a terminal: names come from other people."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
