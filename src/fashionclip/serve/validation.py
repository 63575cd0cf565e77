"""What is wrong with a request's fields and parameters, in plain words and one line."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from pydantic_core import PydanticCustomError

MAX_FAULTS = 3  # of one request that are named
MAX_SHOWN_CHARS = 40  # of a wrong value

OWN_MESSAGE = "own_message"
"""Type of an error whose message is our own."""
_UNION_TAG = re.compile(r"str|int|float|bool|EmbeddingInput|ImageReference|.*\[.*\].*")
"""Parts of an error's place that name an alternative of a type instead of a field."""
_ALTERNATIVES: Mapping[str, str] = MappingProxyType(
    {
        "input": "must be a text, or a list of texts and of objects with text, image or image_url",
        "image_url": "must be a URL as text",
        "templates": "must be the name of a set of prompts, or a list of prompts",
    }
)
_SCALAR = "must be text, a number, true, false or null"

Error = Mapping[str, Any]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known, with the nearest one.

    Args:
        what: "field", "parameter" or the like.
        name: the unknown name.
        known: those that there are.
    """
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"choose one of {', '.join(names)}" if names else "there are none here"
    return f"unknown {what} {name!r:.60}; " + (f"did you mean {near[0]!r}?" if near else hint)


def own_error(message: str) -> PydanticCustomError:
    """An error with a message of our own, for a validator of pydantic to raise."""
    return PydanticCustomError(OWN_MESSAGE, "{message}", {"message": message})


def validation_message(errors: Sequence[Error]) -> str:
    """What is wrong with a request, in one line.

    Args:
        errors: pydantic's errors; the first ones are named.
    """
    by_place: dict[str, list[Error]] = {}
    for error in errors:
        by_place.setdefault(_place(error), []).append(error)
    alone = _most_specific(by_place)
    said = list(dict.fromkeys(_fault(place, some) for place, some in alone.items()))
    more = f"; {len(said) - MAX_FAULTS} more" if len(said) > MAX_FAULTS else ""
    return "; ".join(said[:MAX_FAULTS]) + more


def _most_specific(by_place: Mapping[str, list[Error]]) -> Mapping[str, list[Error]]:
    """Without the faults of alternatives, where a place inside one of them says more."""

    def has_inner(place: str) -> bool:
        return any(other.startswith((f"{place}.", f"{place}[")) for other in by_place)

    return {place: some for place, some in by_place.items() if not (place and has_inner(place))}


def _place(error: Error) -> str:
    """Where the error is: "products[0].id"; "" for the whole body."""
    path = ""
    for part in error["loc"][1:]:  # the first is body or query
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _UNION_TAG.fullmatch(part):
            path += f".{part}" if path else part
    return path


def _fault(place: str, errors: Sequence[Error]) -> str:
    own = next((error for error in errors if error["type"] == OWN_MESSAGE), None)
    if own is not None:
        return f"{place}: {own['msg']}" if place else str(own["msg"])
    error = errors[0]
    what = place or "the body"
    if error["type"] == "missing":
        return f"{what} is missing" + ("" if place else "; send it as JSON")
    name = re.split(r"[.\[]", place)[0]
    if len(errors) > 1:
        must = _ALTERNATIVES.get(name, _SCALAR)
    else:
        say = _RULES.get(error["type"])
        must = say(error.get("ctx", {})) if say else str(error["msg"])
    return f"{what} {must}, not {_shown(error.get('input'))}"


def _shown(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list"}
    shown = {None: "null", True: "true", False: "false"}
    if isinstance(value, bool) or value is None:
        return shown[value]
    text = kinds.get(type(value)) or repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


def _always(text: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda _: text


_TEXT, _WHOLE, _NUMBER = (
    _always(f"must be {kind}") for kind in ("text", "a whole number", "a number")
)
_BOOLEAN, _LIST, _OBJECT = (
    _always(f"must be {kind}") for kind in ("true or false", "a list", "an object")
)
_RULES: Mapping[str, Callable[[Mapping[str, Any]], str]] = MappingProxyType(
    {
        "string_type": _TEXT,
        "string_unicode": _TEXT,
        "int_type": _WHOLE,
        "int_parsing": _WHOLE,
        "int_parsing_size": _WHOLE,
        "int_from_float": _WHOLE,
        "float_type": _NUMBER,
        "float_parsing": _NUMBER,
        "finite_number": _NUMBER,
        "bool_type": _BOOLEAN,
        "bool_parsing": _BOOLEAN,
        "list_type": _LIST,
        "dict_type": _OBJECT,
        "model_type": _OBJECT,
        "model_attributes_type": _OBJECT,
        "literal_error": lambda ctx: f"must be {ctx['expected']}",
        "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']:g}",
        "less_than_equal": lambda ctx: f"must be at most {ctx['le']:g}",
        "too_short": lambda ctx: f"must have at least {ctx['min_length']} items",
        "too_long": lambda ctx: f"must have at most {ctx['max_length']} items",
        "string_too_short": lambda ctx: f"must have at least {ctx['min_length']} characters",
        "string_too_long": lambda ctx: f"must have at most {ctx['max_length']} characters",
    }
)
