"""Arguments against a tool's input schema, before anything runs.

Unknown, missing, null, mistyped and oversized ones are refused, each with a sentence that a model can repair its call
from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from obi_mcp.errors import InvalidArgument
from obi_mcp.toolsets.base import Schema, ToolSpec

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def check_arguments(spec: ToolSpec, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments, when they fit ``spec.input_schema``; its ``type``, ``enum``, ``items``, ``pattern``, length and
    range words are used.

    Raises: InvalidArgument.
    """
    properties: Mapping[str, Schema] = spec.input_schema["properties"]
    for name in arguments:
        if name not in properties:
            raise InvalidArgument(f"{spec.name} has no argument {name[:80]!r}", _unknown_hint(name, properties))
    for name in spec.input_schema.get("required", ()):
        if name not in arguments:
            raise InvalidArgument(f"{spec.name} needs the argument {name}", _describe(name, properties[name]))
    for name, value in arguments.items():
        if (problem := _problem(value, properties[name])) is not None:
            raise InvalidArgument(f"{name} of {spec.name} {problem}", _repair(name, value, properties[name]))
    return arguments


def _problem(value: Any, schema: Schema) -> str | None:
    if value is None:
        return "is null; leave it out, or give a value"
    kinds = _TYPES[schema["type"]]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return f"must be of type {schema['type']}, not {_json_type(value)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(map(str, schema['enum']))}, not {str(value)[:80]!r}"
    if isinstance(value, str):
        return _text_problem(value, schema)
    if isinstance(value, int | float):
        return _range_problem(value, schema)
    if isinstance(value, list) and "items" in schema:
        problems = ((number, _problem(entry, schema["items"])) for number, entry in enumerate(value, 1))
        return next((f"has an entry {number} that {problem}" for number, problem in problems if problem), None)
    return None


def _text_problem(value: str, schema: Schema) -> str | None:
    longest, shortest = schema.get("maxLength"), schema.get("minLength", 0)
    if longest is not None and len(value) > longest:
        return f"has {len(value):,} characters; at most {longest:,} are taken"
    if len(value) < shortest:
        return "is empty"
    pattern = schema.get("pattern")
    if pattern is not None and not re.fullmatch(pattern, value):
        return f"is {value[:80]!r}, which is not of the form {pattern}"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "is not valid text: it holds half a surrogate pair"
    return None


def _range_problem(value: float, schema: Schema) -> str | None:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and not value >= least:
        return f"is {value:,.15g}; at least {least:,.15g} is taken"
    if most is not None and not value <= most:
        return f"is {value:,.15g}; at most {most:,.15g} is taken"
    return None


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return next((name for name, kinds in _TYPES.items() if isinstance(value, kinds)), type(value).__name__)


def _describe(name: str, schema: Schema) -> str:
    return f"{name}: {schema.get('description') or _form(schema)}"


def _repair(name: str, value: Any, schema: Schema) -> str:
    """The way out of a value that does not fit: the nearest of the known ones, or what the argument is."""
    entries = schema.get("items", {})
    known = [str(one) for one in (*schema.get("enum", ()), *entries.get("enum", ()))]
    given = [value] if not isinstance(value, list) else value
    wrong = next((str(one) for one in given if known and str(one) not in known), None)
    if wrong is not None:
        import difflib

        if nearest := difflib.get_close_matches(wrong[:80], known, n=1, cutoff=0.6):
            return f"did you mean {nearest[0]}?"
    return _describe(name, schema)


def _form(schema: Schema) -> str:
    """What a value looks like, for an argument whose name says it all."""
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if schema["type"] == "array" and "items" in schema:
        return f"an array, each entry {_form(schema['items'])}"
    if schema["type"] == "boolean":
        return "true or false, without quotes"
    if {"minimum", "maximum"} <= schema.keys():
        return f"{schema['type']} from {schema['minimum']:,.15g} to {schema['maximum']:,.15g}"
    return str(schema["type"])


def _unknown_hint(name: str, properties: Mapping[str, Schema]) -> str:
    import difflib

    nearest = difflib.get_close_matches(name[:80], properties, n=1, cutoff=0.5)
    start = f"did you mean {nearest[0]}? " if nearest else ""
    return f"{start}It takes {', '.join(properties)}."
