"""Redaction: removes secrets and tokens from records, and hashes rooms and people if asked to."""

import hashlib
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping

from app.logs.context import request_id, trace_id

#: Attributes of every record; the rest came with `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

#: Fields that identify a room or a person.
HIDDEN_FIELDS = frozenset({"room", "identity", "participant", "agent_identity", "caller", "address"})

#: A shorter secret is a test's, and may be a common word.
_SHORTEST_SECRET = 8
_LONGEST_TEXT = 8_000
_DEEPEST = 4
_JWT = r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]*"
_USER_IN_URL = r"(?<=://)[^\s/@]+:[^\s/@]+(?=@)"


class Redaction:
    """Hashes names, keyed with LiveKit's secret: stable as long as the secret, useless without it."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.blake2b(secret.encode(), digest_size=32, person=b"log redaction").digest()

    def hide(self, name: str) -> str:
        digest = hashlib.blake2b(name.encode("utf-8", "backslashreplace"), key=self._key, digest_size=6)
        return f"#{digest.hexdigest()}"


def room_name_filter(secret: str, *, is_on: bool) -> Callable[[str], str]:
    """How alerts, posts and traces show a room's name, which others than the operator may read."""
    return Redaction(secret).hide if is_on else str


class RecordCleaner:
    """Turns records into the texts and fields that may be written."""

    def __init__(self, secrets: Iterable[str] = (), redaction: Redaction | None = None) -> None:
        """`redaction` None: fields keep names as they are."""
        known = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        # Longest first: one may be the beginning of another.
        patterns = [*map(re.escape, sorted(known, key=len, reverse=True)), _JWT, _USER_IN_URL]
        self._secrets = re.compile("|".join(patterns))
        self._redaction = redaction

    def sentence(self, record: logging.LogRecord) -> str:
        is_ours = record.name.partition(".")[0] == "app"
        if self._redaction and not is_ours and record.args:
            # Another library's arguments may be names.
            return self.text(record.msg)
        try:
            return self.text(record.getMessage())
        except Exception:  # noqa: BLE001 - wrong number of arguments, or one without str()
            return self.text(record.msg)

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        fields: dict[str, object] = {}
        for name, value in vars(record).items():
            if name not in _STANDARD:
                fields[name] = self._plain(name, value, _DEEPEST)
        if request_id.get() is not None:
            fields.setdefault("request_id", self.text(request_id.get()))
        if trace_id.get() is not None:
            fields.setdefault("trace_id", self.text(trace_id.get()))
        return fields

    def exception(self, record: logging.LogRecord) -> str | None:
        """The traceback; without the errors' messages if names are hidden."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return None
        if self._redaction:
            return "\n".join(_outline(error, set()))
        return self.text("".join(traceback.format_exception(error)).rstrip())

    def text(self, value: object) -> str:
        try:
            text = str(value)
        except Exception:  # noqa: BLE001 - the line matters more than this value
            return f"<{type(value).__name__}>"
        text = self._secrets.sub("***", text)
        if len(text) <= _LONGEST_TEXT:
            return text
        half = _LONGEST_TEXT // 2
        return f"{text[:half]} ... {text[-half:]}"

    def _plain(self, name: str, value: object, depth: int) -> object:
        """The value in JSON's types."""
        if value is None or isinstance(value, bool | float):
            return value
        if name in HIDDEN_FIELDS and self._redaction:
            return self._redaction.hide(str(value))
        if isinstance(value, int) and abs(value) < 1 << 63:
            return int(value)
        if depth and isinstance(value, Mapping):
            return {self.text(key): self._plain(str(key), item, depth - 1) for key, item in value.items()}
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._plain(name, item, depth - 1) for item in value]
        return self.text(value)


def _outline(error: BaseException, seen: set[int]) -> list[str]:
    """The places and types of an error and its causes, without their messages."""
    seen.add(id(error))
    lines: list[str] = []
    origin = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if origin is not None and id(origin) not in seen:
        lines = [*_outline(origin, seen), "which led to:"]
    frames = traceback.extract_tb(error.__traceback__)
    lines += [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}' for frame in frames]
    lines.append(type(error).__qualname__)
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            lines += ["of which:", *_outline(part, seen)]
    return lines
