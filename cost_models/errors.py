"""Errors of files that describe devices, kernel libraries and calibrations, told in one line.

A message names the file, the dotted field, the value, what is allowed and what to do, so that
whoever wrote the file can correct it without reading the schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

MAX_VALUE_CHARS = 60
"""Longest excerpt of an offending value that a message repeats."""


class DescriptionError(ValueError):
    """A description cannot be used; the message is one line that says what to correct."""


class DeviceError(DescriptionError):
    """A device file, device name or question to a device is wrong."""


class LibraryError(DescriptionError):
    """A library file, library name or question to a library is wrong."""


class CalibrationError(DescriptionError):
    """A table, a law, samples or a bundle cannot be used; one line says what to correct."""


def shown(value: object) -> str:
    """Return ``repr(value)`` on one line, shortened to :data:`MAX_VALUE_CHARS`."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to write out integers of thousands of digits
        text = f"a {type(value).__name__} of thousands of digits"
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 3] + "..."


def unknown_name(what: str, name: str, allowed: Sequence[str]) -> str:
    """Return a message for a name that does not exist: all that do, and the closest one."""
    close = get_close_matches(name, allowed, n=1, cutoff=0.4)
    advice = f"did you mean {close[0]!r}?" if close else "choose one of these"
    return f"{what}: {shown(name)} is unknown; allowed: {', '.join(allowed)}; {advice}"


def one_line(file: str, model: type[BaseModel], error: ValidationError) -> str:
    """Return the first error of a validation as one line, and how many more there are."""
    details = error.errors(include_url=False)
    first = details[0]
    path = ".".join(str(part) for part in first["loc"]) or "(whole file)"
    field = path if path.isprintable() else shown(path)
    more = f" (and {len(details) - 1} more errors)" if len(details) > 1 else ""
    return f"{file}: {field}: {_reason(first, model)}{more}"


def _reason(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """What is wrong with one field, what is allowed, what to do."""
    value, context = shown(detail["input"]), detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            allowed = _keys_at(model, detail["loc"][:-1])
            here = f"allowed keys here: {', '.join(allowed)}; " if allowed else ""
            return f"is missing; {here}add it"
        case "extra_forbidden":
            allowed = _keys_at(model, detail["loc"][:-1])
            return (
                f"unknown key (value {value}); allowed: {', '.join(allowed)}; "
                "remove it or correct its spelling"
            )
        case "literal_error":
            return f"{value} is not allowed; allowed: {context['expected']}; use one of these"
        case "model_type" | "model_attributes_type":
            allowed = _keys_at(model, detail["loc"])
            return f"{value} is not a table; allowed keys: {', '.join(allowed)}; write {{key: ...}}"
        case "value_error":
            return str(context["error"])
        case _:
            return f"{value} is not allowed; {detail['msg'][:1].lower()}{detail['msg'][1:]}"


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the keys of the model that ``location`` leads to from ``model``."""
    annotation: Any = model
    for part in location:
        inner = _model_in(annotation)
        if inner is not None and isinstance(part, str):
            annotation = inner.model_fields[part].annotation
        else:
            annotation = next(a for a in reversed(get_args(annotation)) if a is not Ellipsis)
    found = _model_in(annotation)
    return tuple(found.model_fields) if found is not None else ()


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation names, through ``Annotated`` and ``| None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType) or hasattr(annotation, "__metadata__"):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None
