"""Structured logging to stderr: a sentence, then key=value; or JSON lines. Everything of a process goes through it.

Nothing else is written to: journald or the caller keeps the lines. Values of variables are never told with an error.
"""

import logging
import sys
import threading
from collections.abc import MutableMapping
from time import monotonic
from types import TracebackType
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor, WrappedLogger

from accounting.base.watch import process_name

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
SAME_MAX = 100
"""So often the same sentence is told in SAME_S; beyond, it is counted, and a later one tells how many were left out."""
SAME_S = 10.0
SENTENCES_MAX = 1000


def configure(json: bool = False, level: str = "info") -> None:
    """Send this process's log to stderr, as text or as JSON lines; other libraries' too, warnings, and what ends it."""
    renderer: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            timestamp_key="time",
            exception_formatter=structlog.dev.plain_traceback,  # the default one shows variables, secrets among them
        )
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.add_log_level,
        _name_process(process_name()),
    ]
    exceptions: list[Processor] = [structlog.processors.format_exc_info] if json else []
    structlog.configure(
        processors=[_Limit(), *shared, *exceptions, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),  # stderr as it is then
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_part, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *exceptions, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(LEVELS[level], logging.WARNING), force=True)
    logging.captureWarnings(True)
    sys.excepthook = _tell_end
    threading.excepthook = _tell_thread_end


def is_json() -> bool:
    """Return whether lines are JSON."""
    return isinstance(structlog.get_config()["processors"][-1], structlog.processors.JSONRenderer)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines name the part they come from."""
    return cast(FilteringBoundLogger, structlog.get_logger(part=name))


class _Limit:
    """Lets a flood of the same sentence become a hundred lines in ten seconds."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._told: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def __call__(self, _logger: WrappedLogger, _method: str, line: MutableMapping[str, Any]) -> Any:
        now, sentence = monotonic(), str(line.get("event"))
        if now - self._begun > SAME_S or len(self._told) > SENTENCES_MAX:
            self._begun, self._told = now, {}
        told = self._told[sentence] = self._told.get(sentence, 0) + 1
        if told > SAME_MAX:
            self._left_out[sentence] = self._left_out.get(sentence, 0) + 1
            raise structlog.DropEvent
        if left_out := self._left_out.pop(sentence, 0):
            line["left_out"] = left_out
        return line


def _name_process(name: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["process"] = name
        return line

    return add


def _name_part(_logger: WrappedLogger, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    line["part"] = line["_record"].name
    return line


def _tell_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    get_logger("main").critical("ended by an error of its own", exc_info=(kind, error, trace))


def _tell_thread_end(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        told = (args.exc_type, args.exc_value, args.exc_traceback)
        thread = args.thread.name if args.thread else ""
        get_logger("main").critical("a thread ended by an error of its own", thread=thread, exc_info=told)
