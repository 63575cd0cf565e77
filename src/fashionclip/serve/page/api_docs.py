"""The API documentation page, made from the app's OpenAPI description.

Each endpoint has its fields, an example of its answer, a curl command made from its example, and a
form that sends the request from the page.
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

TYPE_NAMES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "yes or no",
    "null": "",
}

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field or parameter of an endpoint."""

    name: str
    kind: str
    description: str
    is_required: bool
    schema: Schema
    place: str
    """``path``, ``query`` or ``body``."""
    value: str = ""
    """What a form has at first."""

    @property
    def options(self) -> tuple[str, ...]:
        """The values to choose from; empty if there are too many."""
        if self.schema.get("type") == "boolean":
            return ("true", "false")
        kinds = (self.schema, *self.schema.get("anyOf", ()))
        return next((tuple(one["enum"]) for one in kinds if "enum" in one), ())

    @property
    def placeholder(self) -> str:
        """The default value, or an example."""
        kinds = (self.schema, *self.schema.get("anyOf", ()))
        examples = (one["examples"][0] for one in kinds if "examples" in one)
        shown = next(examples, self.schema.get("default"))
        if isinstance(shown, bool | None):
            return "no" if shown is False else ""
        return ",".join(shown) if isinstance(shown, list) else f"{shown}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint."""

    method: str
    path: str
    description: str
    anchor: str
    """The fragment of its URL on the page: the operation's name."""
    scope: str
    """The scope that a key must have; empty if none is needed."""
    fields: tuple[Field, ...]
    bodies: tuple[str, ...]
    """Examples of the body, as indented JSON."""
    curl: str
    """An example command."""
    answer: str
    """The fields or the kind of the answer."""
    example: str
    """An answer, as indented JSON."""

    @property
    def parameters(self) -> tuple[Field, ...]:
        """Fields of the URL."""
        return tuple(one for one in self.fields if one.place != "body")

    @property
    def has_image(self) -> bool:
        """Whether the body has a picture."""
        return any(one.place == "body" and one.name == "image" for one in self.fields)


@dataclass(frozen=True, slots=True)
class Topic:
    """Endpoints under one heading."""

    title: str
    description: str
    endpoints: tuple[Endpoint, ...]


def topics(
    openapi: Schema, *, address: str, values: Mapping[str, str], has_keys: bool
) -> list[Topic]:
    """The endpoints of an OpenAPI description, by topic.

    Args:
        openapi: the description.
        address: the service's address, for the commands: ``http://127.0.0.1:8000``.
        values: of parameters by their names, for the commands and the forms.
        has_keys: whether requests need a key.
    """
    found: dict[str, list[Endpoint]] = {}
    for path, methods in openapi["paths"].items():
        for method, call in methods.items():
            command = _curl(
                openapi, method, path, call, address=address, values=values, key=has_keys
            )
            needed = call.get("security") or [{"": [""]}]
            found.setdefault(call["tags"][0], []).append(
                Endpoint(
                    method=method.upper(),
                    path=path,
                    description=call.get("description") or call.get("summary", ""),
                    anchor=call["operationId"],
                    scope=next(iter(needed[0].values()))[0],
                    fields=tuple(_fields(openapi, call, values)),
                    bodies=tuple(map(_indented, _body(openapi, call).get("examples", ()))),
                    curl=command,
                    answer=_answer(openapi, call),
                    example=_example(openapi, call),
                )
            )
    return [
        Topic(tag["name"].capitalize(), tag["description"], tuple(found[tag["name"]]))
        for tag in openapi["tags"]
        if tag["name"] in found
    ]


def _fields(openapi: Schema, call: Schema, values: Mapping[str, str]) -> Iterable[Field]:
    for parameter in call.get("parameters", ()):
        if parameter["in"] == "header":  # the form sends none
            continue
        schema, name = parameter["schema"], parameter["name"]
        text = parameter.get("description") or _description(schema)
        is_required, place = parameter.get("required", False), parameter["in"]
        value = values.get(name, "")
        kind = _kind(openapi, schema)
        yield Field(name, kind, text, is_required, schema, place, value)
    body = _body(openapi, call)
    required = body.get("required", ())
    for name, schema in body.get("properties", {}).items():
        is_required = name in required
        kind, text = _kind(openapi, schema), _description(schema)
        yield Field(name, kind, text, is_required, schema, "body")


def _curl(
    openapi: Schema,
    method: str,
    path: str,
    call: Schema,
    *,
    address: str,
    values: Mapping[str, str],
    key: bool,
) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    query = {
        parameter["name"]: values[parameter["name"]]
        for parameter in call.get("parameters", ())
        if parameter["in"] == "query" and parameter["name"] in values
    }
    url = f"{address}{path}" + (f"?{urlencode(query)}" if query else "")
    words = ["curl"] if method == "get" else ["curl", "-X", method.upper()]
    lines = [f"{' '.join(words)} {shlex.quote(url)}"]
    if key:
        lines.append('-H "Authorization: Bearer $KEY"')
    examples = _body(openapi, call).get("examples")
    if examples:
        lines.append("-H 'Content-Type: application/json'")
        lines.append(f"-d {shlex.quote(json.dumps(examples[0], ensure_ascii=False))}")
    if "image/jpeg" in call["responses"].get("200", {}).get("content", {}):
        lines.append("-o image.jpg")
    return " \\\n  ".join(lines)


def _body(openapi: Schema, call: Schema) -> Schema:
    content = call.get("requestBody", {}).get("content", {})
    return _resolved(openapi, content.get("application/json", {}).get("schema", {}))


def _answer(openapi: Schema, call: Schema) -> str:
    content = call["responses"].get("200", {}).get("content", {})
    for kind, held in content.items():
        if kind != "application/json":
            return {"image/jpeg": "a JPEG", "text/plain": "plain text"}.get(kind, str(kind))
        return ", ".join(_resolved(openapi, held["schema"]).get("properties", ()))
    return ""


def _example(openapi: Schema, call: Schema) -> str:
    content = call["responses"].get("200", {}).get("content", {}).get("application/json", {})
    examples = _resolved(openapi, content.get("schema", {})).get("examples", ())
    return _indented(examples[0]) if examples else ""


def _indented(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _resolved(openapi: Schema, schema: Schema) -> Schema:
    """A schema, with a reference resolved."""
    name = str(schema.get("$ref", "")).removeprefix("#/components/schemas/")
    found: Schema = openapi["components"]["schemas"][name] if name else schema
    return found


def _kind(openapi: Schema, schema: Schema) -> str:
    """A field's type, bounds and default as text: "whole number from 1; default 10"."""
    words = _bare_kind(openapi, schema)
    for bound, word in (("minimum", "from"), ("maximum", "to")):
        if bound in schema:
            words += f" {word} {schema[bound]:g}"
    default = schema.get("default")
    if default not in (None, "", [], {}):
        shown = {True: "yes", False: "no"}[default] if isinstance(default, bool) else default
        words += f"; default {shown}"
    return words


def _bare_kind(openapi: Schema, schema: Schema) -> str:
    if "anyOf" in schema:
        kinds = [_bare_kind(openapi, one) for one in schema["anyOf"]]
        return " or ".join(dict.fromkeys(filter(None, kinds)))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        items = _bare_kind(openapi, schema.get("items", {}))
        return f"list of {items}" if items else "list"
    if "$ref" in schema or schema.get("type") == "object":
        named = _resolved(openapi, schema).get("properties", {})
        return f"object of {', '.join(named)}" if named else "object"
    return TYPE_NAMES.get(schema.get("type", ""), "")


def _description(schema: Schema) -> str:
    found = schema.get("description", "")
    inner = next(
        (one["description"] for one in schema.get("anyOf", ()) if "description" in one), ""
    )
    return str(found or inner)
