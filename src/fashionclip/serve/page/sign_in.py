"""The sign-in page: a key is kept in a cookie, which only allows reading."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from fashionclip.serve.middleware.keys import COOKIE, Keys
from fashionclip.serve.page.context import EXPECTED_ERRORS, PageContext

LOGIN = "/login"


@dataclass(frozen=True, slots=True)
class SignInPage:
    """Answers the requests of the sign-in page."""

    context: PageContext

    async def form(self, request: Request) -> Response:
        """The form for a key, if this service has keys."""
        after = _own_path(request.query_params.get("next", ""))
        if self.context.settings.key_file is None:
            return RedirectResponse(after, HTTPStatus.SEE_OTHER)
        return self.context.renderer.page("login.html.jinja", here="login", error="", after=after)

    async def log_in(self, request: Request) -> Response:
        """Store a valid key in a cookie that scripts cannot read, or delete the cookie."""
        key_file, renderer = self.context.settings.key_file, self.context.renderer
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        after = _own_path(form.get("next", ""))
        answer = RedirectResponse(after, HTTPStatus.SEE_OTHER)
        if key_file is None:
            return answer
        if "out" in form:
            answer = RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER)
            answer.delete_cookie(COOKIE)
            return answer
        secret = form.get("key", "").strip()
        try:
            keys = await asyncio.to_thread(Keys.read, key_file)
        except EXPECTED_ERRORS as exc:
            return renderer.exception(exc)
        if "read" not in keys.scopes(secret):
            error = "This key is not valid here; check that it is complete."
            return renderer.page(
                "login.html.jinja", HTTPStatus.FORBIDDEN, here="login", error=error, after=after
            )
        # lax: a link from another site works, a request that another site sends has no cookie
        is_secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="lax", secure=is_secure)
        return answer


def _own_path(path: str) -> str:
    """Where to go after signing in: a path of this service, never another site's URL."""
    parts = urlsplit(path.replace("\\", "/"))
    is_own = path.startswith("/") and not (parts.scheme or parts.netloc) and path[:2] != "//"
    return path if is_own and path.isprintable() else "/"
