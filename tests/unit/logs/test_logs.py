"""The log's two formats, what neither may show, and the output."""

import io
import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina

from app.logs.context import bind
from app.logs.formats import JsonForm, TextForm
from app.logs.redaction import RecordCleaner, Redaction
from app.logs.setup import configure_logging, prepare_process
from app.logs.writer_thread import OutputThread, writer_to
from fakes.log import FakeLog

#: 2023-11-14T22:13:20.123Z
AT = 1_700_000_000_123_456
SECRET = "a-secret-of-32-characters-or-so!"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


def record(
    message: object = "A dispatch changed its state", *args: object, logger: str = "app.test", **extra: object
) -> logging.LogRecord:
    made = logging.LogRecord(logger, logging.INFO, __file__, 1, message, args, None)
    vars(made).update(extra)
    return made


def failed(error: Exception) -> logging.LogRecord:
    made = record("It failed")
    try:
        raise error
    except type(error):
        made.exc_info = sys.exc_info()
    return made


def as_json(made: logging.LogRecord, cleaner: RecordCleaner | None = None) -> dict[str, Any]:
    (line,) = JsonForm(cleaner or RecordCleaner()).lines(made, AT)
    assert len(line.splitlines()) == 1
    decoded: dict[str, Any] = json.loads(line)
    return decoded


def as_text(made: logging.LogRecord) -> list[str]:
    return TextForm(RecordCleaner()).lines(made, AT)


def test_a_record_is_one_json_object_on_one_line() -> None:
    assert as_json(record("Two\nlines %s", 7, action="transition", people=2, end_reason=None)) == {
        "time": "2023-11-14T22:13:20.123+00:00",
        "level": "info",
        "logger": "app.test",
        "message": "Two\nlines 7",
        "action": "transition",
        "people": 2,
        "end_reason": None,
    }


def test_an_exception_has_its_traceback() -> None:
    line = as_json(failed(ValueError("no number")))
    assert line["message"] == "It failed"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: no number")


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("not even this")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (ValueError("x"), "x"),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
        (1 << 70, str(1 << 70)),
        (float("nan"), None),
        ("half a \ud800 pair", "half a \\ud800 pair"),
        (Unspeakable(), "<Unspeakable>"),
        ("x" * 9_000, "x" * 4_000 + " ... " + "x" * 4_000),
    ],
)
def test_a_field_of_any_kind_can_be_written(value: object, written: object) -> None:
    assert as_json(record(field=value))["field"] == written


def test_a_field_that_contains_itself_can_be_written() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert as_json(record(field=endless))["field"]


def test_a_message_with_the_wrong_number_of_arguments_is_written_unformatted() -> None:
    assert as_json(record("%s and %s", "one"))["message"] == "%s and %s"


def test_a_field_cannot_replace_a_standard_one() -> None:
    made = record(time="then", level="error")
    vars(made)["logger"] = "somebody"
    line = as_json(made)
    assert (line["level"], line["logger"]) == ("info", "app.test")


def test_a_line_has_the_id_of_its_request() -> None:
    with bind("req-1"):
        assert as_json(record())["request_id"] == "req-1"
    assert "request_id" not in as_json(record())


FORGERIES = [
    'room"\n{"level":"error","message":"forged"}',
    "room\r12:00:00 ERROR   forged",
    "room\x1b[2K\x1b[1Aforged",
    "room\u2028forged",
    "room\x85forged",
    "room\x9b2Kforged",
    "room\u202eforged",
    "room\x00\x7f",
]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_field_cannot_forge_a_line_or_control_a_terminal(forgery: str) -> None:
    made = record(forgery, room=forgery)
    vars(made)[forgery] = 1
    (json_line,) = JsonForm(RecordCleaner()).lines(made, AT)
    (text_line,) = as_text(made)
    for line in (json_line, text_line):
        assert line.isprintable()
    assert json.loads(json_line)["room"] == forgery
    assert as_json(made)["level"] == "info"


def test_the_text_format_has_the_fields_after_the_message() -> None:
    (line,) = as_text(record(action="transition", people=2, end_reason=None))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d INFO    A dispatch changed its state  action=transition people=2", line
    )


def test_a_value_in_the_text_format_cannot_forge_a_field() -> None:
    (line,) = as_text(record(room='a" people=9', other="b=1"))
    assert line.endswith(r'room="a\" people=9" other="b=1"')


def test_a_traceback_in_the_text_format_cannot_forge_a_line() -> None:
    lines = as_text(failed(ValueError("no number\x1b[2K\rforged")))
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == r"ValueError: no number\x1b[2K\rforged"


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        JWT,
        f"Bearer {JWT}",
        f"https://host/?access_token={JWT}&x",
        "postgresql://me:pass@word@host/db",
    ],
)
def test_secrets_and_tokens_are_removed_everywhere(secret: str) -> None:
    for made in (
        record(f"It says {secret}"),
        record("It says %s", secret),
        record(reason=secret),
        record(deep={"x": [secret]}),
        failed(ValueError(secret)),
    ):
        line = str(as_json(made, RecordCleaner([SECRET])))
        assert not any(part in line for part in (SECRET, JWT, JWT.split(".")[2], "pass@word"))
        assert "***" in line


def test_a_short_secret_removes_no_words() -> None:
    assert as_json(record("the secret of it"), RecordCleaner(["secret", ""]))["message"] == "the secret of it"


def test_a_name_always_has_the_same_hash() -> None:
    cleaner = RecordCleaner(redaction=Redaction(SECRET))
    first = as_json(record(room="lobby", agent_identity="agent-AJ", people=2, identity=None), cleaner)
    again = as_json(record("Another", room="lobby"), cleaner)
    assert first["room"] == again["room"] == Redaction(SECRET).hide("lobby")
    assert re.fullmatch("#[0-9a-f]{12}", first["room"])
    assert first["room"] != Redaction("another-secret").hide("lobby")
    assert first["agent_identity"].startswith("#")
    assert (first["people"], first["identity"]) == (2, None)


def test_with_redaction_an_error_has_its_place_and_type_only() -> None:
    def fail() -> None:
        try:
            raise KeyError("alice")  # noqa: TRY301 - what led to it has to be an error too
        except KeyError as error:
            raise ExceptionGroup("alice", [ValueError("alice")]) from error

    made = record("It failed")
    try:
        fail()
    except ExceptionGroup:
        made.exc_info = sys.exc_info()
    exception = as_json(made, RecordCleaner(redaction=Redaction(SECRET)))["exception"]
    assert "alice" not in exception
    for part in ("KeyError", "which led to:", "ExceptionGroup", "ValueError", "in fail"):
        assert part in exception


def test_with_redaction_other_libraries_messages_have_no_arguments() -> None:
    cleaner = RecordCleaner(redaction=Redaction(SECRET))
    assert as_json(record("No answer from %s", "alice", logger="aiohttp.server"), cleaner)["message"] == (
        "No answer from %s"
    )
    assert as_json(record("%s things", 3), cleaner)["message"] == "3 things"


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger and Python's hooks, restored afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = threading.excepthook, sys.unraisablehook
    # pytest has handlers here, which basicConfig would close.
    root.handlers[:] = []
    source, flags = logging._srcfile, (logging.logThreads, logging.logProcesses, logging.logMultiprocessing)
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(False)
    logging._srcfile = source
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags


def test_a_terminal_gets_text_and_a_pipe_gets_json(root_logger: logging.Logger, tmp_path: Path) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as terminal, os.fdopen(leader, "rb") as seen:
        log = configure_logging("INFO", terminal)
        root_logger.info("Hello", extra={"action": "start"})
        log.close()
        assert b"Hello  action=start" in seen.readline()
    with (tmp_path / "log").open("w") as file:
        log = configure_logging("INFO", file)
        root_logger.info("Hello", extra={"action": "start"})
        root_logger.debug("Not this")
        log.close()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line)["action"] == "start"


def test_a_stream_may_have_no_descriptor(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    log = configure_logging("INFO", stream)
    root_logger.info("Hello")
    log.close()
    assert '"Hello"' in stream.getvalue()
    assert log.counts.written == {"info": 1}


def test_libraries_do_not_log_statements_with_parameters(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    log = configure_logging("DEBUG", stream)
    assert root_logger.level == logging.DEBUG
    logging.getLogger("sqlalchemy.engine.Engine").info("INSERT INTO dispatches ('room')")
    logging.getLogger("aiosqlite").debug("executing")
    log.close()
    assert stream.getvalue() == ""


def test_pythons_own_warnings_and_errors_are_logged(root_logger: logging.Logger) -> None:  # noqa: ARG001 - restores it
    stream = io.StringIO()
    log = configure_logging("INFO", stream)
    prepare_process()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("Old\nways", stacklevel=1)
        logging.captureWarnings(False)

    def fail() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

    class Reluctant:
        def __del__(self) -> None:
            raise ValueError("at the end")

    Reluctant()
    log.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["logger"] for line in lines] == ["py.warnings", "app.logs.setup", "app.logs.setup"]
    assert "in a thread" in lines[1]["exception"]
    assert "at the end" in lines[2]["exception"]


def test_a_retry_is_one_line_at_debug(root_logger: logging.Logger) -> None:  # noqa: ARG001 - restores it
    stream = io.StringIO()
    log = configure_logging("DEBUG", stream)
    prepare_process()
    tries = 0
    for attempt in stamina.retry_context(on=ValueError, attempts=2, wait_initial=0, wait_jitter=0):
        with attempt:
            tries += 1
            if tries == 1:
                raise ValueError(SECRET)
    log.close()
    stamina.instrumentation.set_on_retry_hooks(None)
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["level"], line["action"], line["reason"]) == ("debug", "retry", "ValueError")
    assert SECRET not in stream.getvalue()


def test_a_closed_output_only_loses_its_lines(
    root_logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        log = configure_logging("INFO", stream)
        os.close(reader)
        for _ in range(10):
            root_logger.error("Nobody hears this")
        log.close()
    assert log.counts.dropped == {"error": 10}
    assert capfd.readouterr() == ("", "")


def test_a_blocked_output_does_not_block_callers(root_logger: logging.Logger) -> None:
    """A pipe holds 64 KiB; a caller that wrote into a full one would block for ever."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as seen:
        log = configure_logging("INFO", stream)
        for _ in range(20_000):
            root_logger.info("A line that is fairly long, as lines in a log may be", extra={"people": 2})
        read = b""
        closing = threading.Thread(target=log.close)
        closing.start()
        while b"The last" not in read and closing.is_alive():
            read += seen.read(65_536)
            if read.count(b"\n") + log.counts.dropped.total() >= 20_000:
                break
        closing.join()
    assert log.counts.dropped["info"] > 0
    assert log.counts.written.total() + log.counts.dropped.total() == 20_000


def test_a_non_blocking_pipe_gets_whole_lines() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "".join(f"{number:079}\n" for number in range(5_000))
    with os.fdopen(writer, "w") as stream, os.fdopen(reader) as seen:
        thread = threading.Thread(target=writer_to(stream), args=(text.encode(),))
        thread.start()
        assert "".join(seen.readline() for _ in range(5_000)) == text
        thread.join()


def test_a_quiet_process_reports_in_time_and_at_its_end() -> None:
    log = FakeLog(limit=2)
    reported = threading.Event()
    sent: list[bytes] = []
    output = OutputThread(sent.append)
    original = log.pipeline.report

    def report() -> None:
        original()
        reported.set()

    log.pipeline.report = report  # type: ignore[method-assign]
    for _ in range(3):
        log.log(level=logging.ERROR)
    log.clock.advance(60)
    output.start(log.pipeline)
    assert reported.wait(10)
    assert log.sentences()[-1] == "Lines were dropped from the log"
    log.log(level=logging.ERROR)
    log.log(level=logging.ERROR)
    log.clock.advance(2)
    output.close()
    assert log.lines()[-1]["dropped"] == {"error": 1}
