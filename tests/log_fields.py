"""The log of a failing test with times and fields, of which pytest's own format shows neither."""

import logging

import pytest

from app.logs.formats import TextForm
from app.logs.redaction import RecordCleaner


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(TextForm(RecordCleaner()).lines(record, round(record.created * 1e6)))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # With `-p no:logging` there is no such plugin.
    if (logging_plugin := config.pluginmanager.get_plugin("logging-plugin")) is not None:
        logging_plugin.report_handler.setFormatter(_Lines())
