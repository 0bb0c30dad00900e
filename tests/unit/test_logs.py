"""The log's two forms."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.logs import JsonFormatter, TextFormatter, configure_logging


def record(
    message: str = "A dispatch changed its state", *args: object, **extra: object
) -> logging.LogRecord:
    made = logging.LogRecord("app.tracker", logging.INFO, __file__, 1, message, args, None)
    made.created = 1_700_000_000.123
    vars(made).update(extra)
    return made


def failed() -> logging.LogRecord:
    made = record("It failed")
    try:
        int("no number")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    decoded: dict[str, Any] = json.loads(line)
    return decoded


def test_a_record_is_one_json_object_on_one_line() -> None:
    assert as_json(record("Two\nlines %s", 7, action="transition", people=2, end_reason=None)) == {
        "time": "2023-11-14T22:13:20.123+00:00",
        "level": "info",
        "logger": "app.tracker",
        "message": "Two\nlines 7",
        "action": "transition",
        "people": 2,
        "end_reason": None,
    }


def test_a_failure_brings_its_traceback() -> None:
    line = as_json(failed())
    assert line["message"] == "It failed"
    assert line["exception"].endswith("literal for int() with base 10: 'no number'")


def test_a_field_of_any_kind_can_be_written() -> None:
    line = as_json(record(where=ValueError("x"), what={1, 2}, path=io.BytesIO))
    assert line["where"] == "x"


def test_the_text_form_has_the_fields_behind_the_sentence() -> None:
    line = TextFormatter().format(record(action="transition", people=2, end_reason=None))
    assert line.endswith("INFO    A dispatch changed its state  action=transition people=2")


def test_the_text_form_has_tracebacks_too() -> None:
    assert TextFormatter().format(failed()).endswith("literal for int() with base 10: 'no number'")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, set back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # pytest listens here; basicConfig would close its handlers.
    root.handlers[:] = []
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(("stream", "begin"), [(io.StringIO(), '{"time"'), (Terminal(), "")])
def test_a_terminal_gets_text_and_a_pipe_gets_json(
    root_logger: logging.Logger, stream: io.StringIO, begin: str
) -> None:
    configure_logging("INFO", stream)
    root_logger.info("Hello", extra={"action": "start"})
    root_logger.debug("Not this")
    (line,) = stream.getvalue().splitlines()
    assert line.startswith(begin)
    assert ("action=start" in line) == (not begin)


def test_libraries_that_log_statements_with_their_parameters_do_not(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    configure_logging("DEBUG", stream)
    assert root_logger.level == logging.DEBUG
    logging.getLogger("sqlalchemy.engine.Engine").info("INSERT INTO dispatches ('room')")
    logging.getLogger("aiosqlite").debug("executing")
    assert stream.getvalue() == ""
