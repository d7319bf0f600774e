"""Who may talk to the lab's server: asked of every request, the page's own connection included, before anything else.

A page of a stranger's site can make a browser ask for an address on this machine, or let its own name point here. The
first says in Origin which site asks, the second in Host by which name it does. Neither is answered unless the name is
the lab's: this machine's own, or the one under which people reach it, which `browser.serverAddress` says. And a page
of the lab may load what the lab itself serves, and nothing from elsewhere, whatever words it shows.
"""

import json
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
_EVERYWHERE = {"0.0.0.0", "::", ""}  # where a server listens, and no name
_LONGEST_NAME = 253  # letters, of any name there is
SETTING = "STREAMLIT_BROWSER_SERVER_ADDRESS"

# Streamlit's page has a script and styles in its text, and takes components and workers from what it makes itself.
_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Gate:
    """Answers 421 to a foreign Host and 403 to a foreign Origin, and lets the rest pass to `app`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        named = (st.get_option("browser.serverAddress"), st.get_option("server.address"))
        self._own = _THIS_MACHINE | {_set_name(name) for name in named if name} - _EVERYWHERE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a request, or the connection of a page."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(scope["path"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send_with_policy)
            return
        # Asked about an origin that it does not know, Streamlit would ask the internet for this machine's address.
        asked = [(name, value) for name, value in scope["headers"] if name != b"origin"]
        await self._app({**scope, "headers": asked}, receive, send_with_policy)

    def _refusal(self, path: str, headers: Headers) -> Response | None:
        for host in (headers.getlist("host") or [""]) + headers.getlist("x-forwarded-host"):
            if _name(f"//{host}") not in self._own:
                return PlainTextResponse(_sentence("does not answer to the name", host, _name(f"//{host}")), 421)
        for origin in headers.getlist("origin"):
            if _name(origin) not in self._own:
                sentence = _sentence("does not answer pages of", origin, _name(origin))
                if path.endswith(".js"):
                    # A proxy of that name asks by ours: the page itself came through, and would stay empty.
                    return Response(f"document.body.textContent = {json.dumps(sentence)}", media_type="text/javascript")
                return PlainTextResponse(sentence, 403)
        return None


def _name(address: str) -> str:
    """The name in an address such as `//[::1]:8501` or `https://lab.example`, in small letters; `""` for none."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises ValueError where it is no number
        more = parts.username is not None or parts.path or parts.query or parts.fragment
        return "" if more else (parts.hostname or "").rstrip(".")
    except ValueError:
        return ""


def _set_name(setting: str) -> str:
    """The name in an address that is set, which unlike a request's may begin with a scheme and end in a path."""
    address = setting.strip().split("://")[-1].split("/")[0]
    bare = address.count(":") > 1 and not address.startswith("[")  # of the sixth version, as in `fd00::5`
    return _name(f"//[{address}]" if bare else f"//{address}")


def _sentence(refused: str, told: str, name: str) -> str:
    name = "NAME" if name in _EVERYWHERE or len(name) > _LONGEST_NAME else name
    return (
        f"This lab {refused} {told[:80]!r}; if people shall reach it so, start it with {SETTING}={name} in its "
        "environment.\n"
    )
