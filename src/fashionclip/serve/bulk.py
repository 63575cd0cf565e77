"""Bulk changes: a body of many lines, each a change of one product, read and written as it comes.

The body has no limit, since at most one batch of its lines is held. The report has a line for each
line of the body, and is sent when the body has ended: many clients do not read while they send.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from pydantic import ValidationError
from pydantic_core import from_json, to_json
from starlette.requests import ClientDisconnect

from fashionclip.errors import BusyError, FashionCLIPError
from fashionclip.serve.http_errors import client_message
from fashionclip.serve.inputs import Inputs, gather
from fashionclip.serve.middleware.limits import CLIENT_DISCONNECTED, NDJSON
from fashionclip.serve.schemas.requests import BulkLine
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings
from fashionclip.serve.validation import validation_message
from fashionclip.serve.writes import Change, Deletion, NewProduct, Outcome, Patch

LINES_PER_WRITE = 256
REPORT_BYTES_IN_MEMORY = 1_000_000  # more are kept in a temporary file
BUSY_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the body, from 1, or why it cannot be read."""

    number: int
    text: bytes = b""
    fault: str = ""


class _Broken(Exception):
    """The body ended before it was complete."""


class Bulk:
    """Answers bulk requests."""

    def __init__(self, services: Services, settings: Settings) -> None:
        """Store both.

        Args:
            services: store, change and delete.
            settings: a line has at most ``body_bytes``, and each part comes in ``body_seconds``.
        """
        self._services, self._settings = services, settings
        self._inputs = Inputs(services, settings)

    async def answer(self, request: Request, *, add_columns: bool) -> Response:
        """Write the changes of a body, and report what became of each.

        Args:
            request: its body is read here.
            add_columns: whether unknown columns are added.
        """
        report = SpooledTemporaryFile(max_size=REPORT_BYTES_IN_MEMORY)  # noqa: SIM115 - sent later
        counts = Counter[str]()
        fault = ""
        try:
            async for lines in self._batches(request):
                for one in await self._write(lines, add_columns=add_columns):
                    counts[one["status"]] += 1
                    report.write(to_json(one) + b"\n")
        except ClientDisconnect:
            report.close()
            return Response(status_code=CLIENT_DISCONNECTED)
        except _Broken as exc:
            fault = str(exc)
        request.state.n = counts.total()
        statuses = ("stored", "patched", "deleted", "missing", "rejected")
        summary: dict[str, Any] = {"lines": counts.total()} | {one: counts[one] for one in statuses}
        report.write(to_json(summary | ({"error": fault} if fault else {})) + b"\n")
        report.seek(0)
        headers = {"Connection": "close"} if fault else {}
        status = HTTPStatus.REQUEST_TIMEOUT if fault else HTTPStatus.OK
        return StreamingResponse(_parts(report), status, headers, media_type=NDJSON)

    async def _batches(self, request: Request) -> AsyncIterator[list[_Line]]:
        """The lines that are not empty, in batches that fit into memory.

        Raises:
            _Broken: the rest of the body is too slow.
            ClientDisconnect: the client has gone.
        """
        lines: list[_Line] = []
        n_bytes = 0
        async for line in self._lines(request):
            lines.append(line)
            n_bytes += len(line.text)
            if len(lines) == LINES_PER_WRITE or n_bytes >= self._settings.body_bytes:
                yield lines
                lines, n_bytes = [], 0
        if lines:
            yield lines

    async def _lines(self, request: Request) -> AsyncIterator[_Line]:
        limit = self._settings.body_bytes
        number, is_too_long, held = 1, False, bytearray()
        stream = request.stream()
        while True:
            try:
                async with asyncio.timeout(self._settings.body_seconds):
                    part = await anext(stream, None)
            except TimeoutError as exc:
                message = f"no more came within {self._settings.body_seconds:g} s; send the rest"
                raise _Broken(message) from exc
            *ends, rest = (b"\n" if part is None else part).split(b"\n")
            for end in ends:
                held += end
                text = bytes(held).strip()
                if is_too_long or len(held) > limit:
                    yield _Line(number, fault=f"the line is longer than {limit:,} bytes")
                elif text:
                    yield _Line(number, text)
                number, is_too_long = number + 1, False
                held.clear()
            if part is None:
                return
            held += rest
            if len(held) > limit:
                is_too_long = True
                held.clear()

    async def _write(self, lines: list[_Line], *, add_columns: bool) -> list[dict[str, Any]]:
        """What became of each line, in their order."""
        read = await gather(self._change(line, add_columns=add_columns) for line in lines)
        changes = [one for one in read if not isinstance(one, Exception)]
        try:
            outcomes = iter(await self._written(changes))
        except FashionCLIPError as exc:
            why = client_message(exc)
            outcomes = iter([Outcome(one.product_id, "rejected", why) for one in changes])
        return [
            _reject(line, one) if isinstance(one, Exception) else self._told(line, next(outcomes))
            for line, one in zip(lines, read, strict=True)
        ]

    async def _written(self, changes: list[Change]) -> list[Outcome]:
        """Write, and wait while the queue of writes is full: the client waits too then."""
        while changes:
            try:
                return list(await self._services.current.write(changes))
            except BusyError:
                await asyncio.sleep(BUSY_WAIT_S)
        return []

    async def _change(self, line: _Line, *, add_columns: bool) -> Change:
        """The change that a line describes.

        Raises:
            ValueError: the line is none; the message says why.
            ImageFetchError, ImageError: its image cannot be read.
        """
        if line.fault:
            raise ValueError(line.fault)
        try:
            text = line.text.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            message = f"the line is not UTF-8 (at byte {exc.start + 1})"
            raise ValueError(message) from exc
        try:
            one = BulkLine.model_validate_json(text)
        except ValidationError as exc:
            errors = [{**error, "loc": ("line", *error["loc"])} for error in exc.errors()]
            is_json = errors[0]["type"] != "json_invalid"
            message = validation_message(errors) if is_json else "the line is not JSON"
            raise ValueError(message) from exc
        if one.delete:
            return Deletion(one.id)
        self._inputs.check_texts([one.caption or "", *map(str, one.columns.values())])
        image = await self._inputs.image(one.image, one.image_url, is_required=False)
        if image is None:
            return Patch(one.id, one.columns, one.caption, add_columns)
        return NewProduct(one.id, image, one.columns, one.caption or "", add_columns)

    def _told(self, line: _Line, outcome: Outcome) -> dict[str, Any]:
        told = {"line": line.number, "id": outcome.product_id, "status": outcome.status}
        reason = outcome.reason
        if outcome.status == "missing":
            reason = self._services.current.no_product(outcome.product_id)
        return told | ({"reason": reason} if reason else {})


def _reject(line: _Line, error: Exception) -> dict[str, Any]:
    return {
        "line": line.number,
        "id": _id_of(line.text),
        "status": "rejected",
        "reason": client_message(error),
    }


def _id_of(text: bytes) -> str | None:
    """The id that a wrong line names, if it does."""
    try:
        fields = from_json(text)
    except ValueError:
        return None
    found = fields.get("id") if isinstance(fields, dict) else None
    return found if isinstance(found, str) else None


def _parts(report: "SpooledTemporaryFile[bytes]") -> Iterator[bytes]:
    with report:
        while part := report.read(1 << 16):
            yield part
