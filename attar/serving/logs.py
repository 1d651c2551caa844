"""Structured logs: one JSON object a line. They never hold a client's text, so neither do they hold error messages."""

import json
import logging
import sys
import time
import traceback
from typing import Any

LOG = logging.getLogger("attar.serving")


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, event, and the fields given as ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": stamp, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            line |= error_fields(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def error_fields(error: BaseException) -> dict[str, Any]:
    """Return the kind and the place of an error, without its message: that may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)
    return {"error": type(error).__name__, "at": [f"{f.filename}:{f.lineno} {f.name}" for f in frames[-8:]]}


def log_as_json() -> None:
    """Write the logs of attar and of uvicorn as JSON lines on stderr, from here on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in (("attar", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
