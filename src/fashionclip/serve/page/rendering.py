"""Rendering of pages: templates, static files, error pages.

The URLs of static files change with their content, so browsers may cache them for ever.
"""

from hashlib import blake2b
from http import HTTPStatus
from importlib.resources import files

from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from fashionclip.images import IMAGE_MEDIA_TYPES
from fashionclip.serve.http_errors import client_message, http_error_of
from fashionclip.serve.settings import Settings

STATIC = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "inside.css": "text/css",
    "inside.js": "text/javascript",
    "shortlist.js": "text/javascript",
    "changes.css": "text/css",
    "changes.js": "text/javascript",
    "api_docs.css": "text/css",
    "api_docs.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
FOREVER = "public, max-age=31536000, immutable"
TITLES = {
    HTTPStatus.NOT_FOUND: "Page not found",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests",
    HTTPStatus.SERVICE_UNAVAILABLE: "Service busy",
}
"""Titles of error pages; other statuses have a general one."""
FOR_VISITORS = {
    HTTPStatus.TOO_MANY_REQUESTS: "too many searches in a short time; wait a moment and try again",
    HTTPStatus.SERVICE_UNAVAILABLE: "the shop is busy just now; wait a moment and try again",
}
"""What visitors read instead of limits and queues."""


class Renderer:
    """The page's templates and static files."""

    def __init__(self, settings: Settings) -> None:
        """Read and compile them.

        Args:
            settings: limits that the page's fields have, and whether there are keys.
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
            max_chars=3 * settings.text_chars,  # the browser cuts more; over text_chars is an error
            image_media_types=" ".join(sorted(IMAGE_MEDIA_TYPES)),
            has_keys=settings.key_file is not None,
            here="",
            query_text="",
            query_image="",
            without_image_url="/",
        )
        for name in self._templates.list_templates():
            self._templates.get_template(name)  # compiles it

    def page(
        self,
        template: str,
        status: int = HTTPStatus.OK,
        *,
        retry_after_s: int = 0,
        **context: object,
    ) -> HTMLResponse:
        """Render a page.

        Args:
            template: file name of the template.
            status: the HTTP status.
            retry_after_s: value of the ``Retry-After`` header; 0 for none.
            **context: the template's variables.
        """
        text = self._templates.get_template(template).render(context)
        headers = {"Cache-Control": "private, no-cache"}
        if retry_after_s:
            headers["Retry-After"] = str(retry_after_s)
        return HTMLResponse(text, status, headers=headers)

    def error(self, status: int, message: str, *, retry_after_s: int = 0) -> HTMLResponse:
        """Render an error page.

        Args:
            status: the HTTP status.
            message: what went wrong.
            retry_after_s: when the same request may succeed; 0 if it will not.
        """
        return self.page(
            "error.html.jinja",
            status,
            retry_after_s=retry_after_s,
            title=TITLES.get(HTTPStatus(status), "That did not work"),
            error=sentence(FOR_VISITORS.get(HTTPStatus(status), message)),
            may_retry=retry_after_s > 0,
        )

    def exception(self, exc: Exception) -> HTMLResponse:
        """Render the error page of an exception of this package."""
        error = http_error_of(exc)
        return self.error(error.status, client_message(exc), retry_after_s=error.retry_after_s)

    def static(self, name: str, version: str | None) -> Response:
        """Answer with a style sheet, script or icon.

        Args:
            name: of the file.
            version: from the URL; browsers may cache the current version for ever.
        """
        if name not in self._static:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        headers = {"Cache-Control": FOREVER if version == self._versions[name] else "no-cache"}
        return Response(self._static[name], media_type=STATIC[name], headers=headers)


def csv_file(data: bytes, name: str) -> Response:
    """A table to download.

    Args:
        data: the CSV.
        name: of the file, in ASCII.
    """
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "private, no-cache",
    }
    return Response(data, media_type="text/csv; charset=utf-8", headers=headers)


def sentence(message: str) -> str:
    """A message as a sentence."""
    return f"{message[:1].upper()}{message[1:]}" + (
        "" if message.endswith((".", "!", "?")) else "."
    )
