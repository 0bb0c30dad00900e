"""The log: whatever the process has to say, as lines of JSON or text, and never more than the limit."""

from app.logs.aggregation import Aggregation
from app.logs.cleaning import Cleaner, Redaction
from app.logs.setup import LogHandler, configure_logging, prepare_process

__all__ = ["Aggregation", "Cleaner", "LogHandler", "Redaction", "configure_logging", "prepare_process"]
