"""The page for programs: what the app's own OpenAPI description says, for people to read.

Every call has its fields, what it answers with, and a line for curl made of its example.
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

TOPICS = {
    "search": "Search",
    "model": "The model by itself",
    "products": "Products",
    "service": "The service",
}
"""Tags of the description as headings, in the order of the page."""
KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "yes or no",
    "null": "",
}

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One field or parameter of a call."""

    name: str
    kind: str
    about: str
    is_needed: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One way to call the service."""

    method: str
    path: str
    about: str
    parts: tuple[Part, ...]
    curl: str
    """A command to try it with."""
    answer: str
    """What comes back, in a few words."""

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return f"{self.method}{self.path}".translate(str.maketrans("/", "-", "{}")).lower()


@dataclass(frozen=True, slots=True)
class Topic:
    """Calls that belong together."""

    title: str
    calls: tuple[Call, ...]


def topics(described: Schema, *, address: str, product_id: str, has_keys: bool) -> list[Topic]:
    """The calls of a description, by topic.

    Args:
        described: the OpenAPI description.
        address: of the service, for the commands: ``http://127.0.0.1:8000``.
        product_id: a product that there is, for the commands.
        has_keys: whether calls need a key.
    """
    found: dict[str, list[Call]] = {tag: [] for tag in TOPICS}
    for path, methods in described["paths"].items():
        for method, call in methods.items():
            tag = next(iter(call.get("tags", ())), "service")
            command = _curl(
                described, method, path, call, address=address, product_id=product_id, key=has_keys
            )
            found.setdefault(tag, []).append(
                Call(
                    method=method.upper(),
                    path=path,
                    about=call.get("description") or call.get("summary", ""),
                    parts=tuple(_parts(described, call)),
                    curl=command,
                    answer=_answer(described, call),
                )
            )
    return [Topic(TOPICS.get(tag, tag), tuple(calls)) for tag, calls in found.items() if calls]


def _parts(described: Schema, call: Schema) -> Iterable[Part]:
    for parameter in call.get("parameters", ()):
        schema = parameter["schema"]
        about = parameter.get("description") or _about(schema)
        yield Part(
            parameter["name"], _kind(described, schema), about, parameter.get("required", False)
        )
    body = _body(described, call)
    needed = body.get("required", ())
    for name, schema in body.get("properties", {}).items():
        yield Part(name, _kind(described, schema), _about(schema), name in needed)


def _curl(
    described: Schema,
    method: str,
    path: str,
    call: Schema,
    *,
    address: str,
    product_id: str,
    key: bool,
) -> str:
    path = path.replace("{product_id}", quote(product_id, safe=""))
    asked = {
        parameter["name"]: product_id
        for parameter in call.get("parameters", ())
        if parameter["in"] == "query" and parameter.get("required")
    }
    url = f"{address}{path}" + (f"?{urlencode(asked)}" if asked else "")
    words = ["curl"] if method == "get" else ["curl", "-X", method.upper()]
    lines = [f"{' '.join(words)} {shlex.quote(url)}"]
    if key:
        lines.append('-H "Authorization: Bearer $KEY"')
    examples = _body(described, call).get("examples")
    if examples:
        lines.append("-H 'Content-Type: application/json'")
        lines.append(f"-d {shlex.quote(json.dumps(examples[0], ensure_ascii=False))}")
    if "image/jpeg" in call["responses"].get("200", {}).get("content", {}):
        lines.append("-o picture.jpg")
    return " \\\n  ".join(lines)


def _body(described: Schema, call: Schema) -> Schema:
    content = call.get("requestBody", {}).get("content", {})
    return _resolved(described, content.get("application/json", {}).get("schema", {}))


def _answer(described: Schema, call: Schema) -> str:
    content = call["responses"].get("200", {}).get("content", {})
    for kind, held in content.items():
        if kind != "application/json":
            return {"image/jpeg": "a JPEG", "text/plain": "plain text"}.get(kind, str(kind))
        return ", ".join(_resolved(described, held["schema"]).get("properties", ()))
    return ""


def _resolved(described: Schema, schema: Schema) -> Schema:
    """A schema, looked up where it only names one."""
    name = str(schema.get("$ref", "")).removeprefix("#/components/schemas/")
    found: Schema = described["components"]["schemas"][name] if name else schema
    return found


def _kind(described: Schema, schema: Schema) -> str:
    """What a field holds, in a few words: "whole number, from 1; 10 if left out"."""
    words = _bare_kind(described, schema)
    for bound, word in (("minimum", "from"), ("maximum", "to")):
        if bound in schema:
            words += f" {word} {schema[bound]:g}"
    default = schema.get("default")
    if default not in (None, "", [], {}):
        shown = {True: "yes", False: "no"}[default] if isinstance(default, bool) else default
        words += f"; {shown} if left out"
    return words


def _bare_kind(described: Schema, schema: Schema) -> str:
    if "anyOf" in schema:
        kinds = [_bare_kind(described, one) for one in schema["anyOf"]]
        return " or ".join(dict.fromkeys(filter(None, kinds)))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        items = _bare_kind(described, schema.get("items", {}))
        return f"list of {items}" if items else "list"
    if "$ref" in schema or schema.get("type") == "object":
        named = _resolved(described, schema).get("properties", {})
        return f"object of {', '.join(named)}" if named else "object"
    return KINDS.get(schema.get("type", ""), "")


def _about(schema: Schema) -> str:
    found = schema.get("description", "")
    inner = next(
        (one["description"] for one in schema.get("anyOf", ()) if "description" in one), ""
    )
    return str(found or inner)
