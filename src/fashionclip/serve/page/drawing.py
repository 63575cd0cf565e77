"""How pages are drawn: templates filled in, style and script, pages that tell of faults.

A page's style and script have addresses that change with what they hold, so that a browser may keep
them for ever.
"""

from hashlib import blake2b
from http import HTTPStatus
from importlib.resources import files

from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from fashionclip.serve.faults import fault_of, one_line
from fashionclip.serve.settings import Settings

STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"
TITLES = {
    HTTPStatus.NOT_FOUND: "There is nothing here",
    HTTPStatus.TOO_MANY_REQUESTS: "Too much at once",
    HTTPStatus.SERVICE_UNAVAILABLE: "Just a moment",
}
"""Of the pages that tell of a fault; of any other it is that it did not work."""


class Drawing:
    """The page's templates and static files."""

    def __init__(self, settings: Settings) -> None:
        """Read them.

        Args:
            settings: limits that the page's fields name, and whether there are keys.
        """
        folder = files("fashionclip.serve.page") / "static"
        self._static = {name: (folder / name).read_bytes() for name in STATIC}
        self._versions = {
            name: blake2b(data, digest_size=6).hexdigest() for name, data in self._static.items()
        }
        self._templates = Environment(
            loader=PackageLoader("fashionclip.serve.page", "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._templates.globals.update(
            static=lambda name: f"/static/{name}?v={self._versions[name]}",
            most_chars=3 * settings.text_chars,  # more is cut by the browser; it is refused anyway
            has_keys=settings.key_file is not None,
            here="",
            asked_text="",
            asked_picture="",
            without_picture_url="/",
        )
        for name in self._templates.list_templates():
            self._templates.get_template(name)  # compiled now: the first customer does not wait

    def page(
        self, template: str, status: int = HTTPStatus.OK, *, wait_s: int = 0, **shown: object
    ) -> HTMLResponse:
        """A page.

        Args:
            template: the template's file name.
            status: HTTP's.
            wait_s: after how many seconds the same may do; 0 says nothing of it.
            **shown: what the template shows.
        """
        text = self._templates.get_template(template).render(shown)
        headers = {"Cache-Control": "private, no-cache"}
        if wait_s:
            headers["Retry-After"] = str(wait_s)
        return HTMLResponse(text, status, headers=headers)

    def fault(self, status: int, message: str, *, wait_s: int = 0) -> HTMLResponse:
        """A page that says what went wrong, and where to go from there.

        Args:
            status: HTTP's.
            message: what went wrong.
            wait_s: after how many seconds the same may do; 0 where it will not.
        """
        title = TITLES.get(HTTPStatus(status), "That did not work")
        shown = {"title": title, "error": sentence(message), "may_retry": wait_s > 0}
        return self.page("fault.html.jinja", status, wait_s=wait_s, **shown)

    def mistake(self, exc: Exception) -> HTMLResponse:
        """The page of an error of this package."""
        fault = fault_of(exc)
        return self.fault(fault.status, one_line(exc), wait_s=fault.retry_after_s)

    def static(self, name: str, version: str | None) -> Response:
        """A style sheet, script or icon.

        Args:
            name: of the file.
            version: as its address has it; the browser may keep today's for ever.
        """
        if name not in self._static:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        headers = {"Cache-Control": FOREVER if version == self._versions[name] else "no-cache"}
        return Response(self._static[name], media_type=STATIC[name], headers=headers)


def sentence(message: str) -> str:
    """A message as a sentence."""
    return f"{message[:1].upper()}{message[1:]}" + (
        "" if message.endswith((".", "!", "?")) else "."
    )
