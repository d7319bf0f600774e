"""Who is let in by the server, and with which headers: the gate before Streamlit, without a server."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from streamlit import config

from pages.parts.gate import SETTING, Gate


def asked(kind: str = "http", path: str = "/", **headers: str) -> tuple[int | None, dict[str, str], str, list[Scope]]:
    """What a request is answered: status (None: nothing), headers and text; and what came through to Streamlit."""
    came: list[Scope] = []
    sent: list[Message] = []

    async def streamlit(scope: Scope, receive: Receive, send: Send) -> None:
        came.append(scope)
        if kind == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"here"})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": f"{kind}.connect"}

    scope: dict[str, Any] = {
        "type": kind, "method": "GET", "path": path, "extensions": {"websocket.http.response": {}},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(Gate(streamlit)(scope, receive, send))
    start = next((message for message in sent if message["type"].endswith("response.start")), None)
    text = b"".join(message.get("body", b"") for message in sent).decode()
    found = {name.decode(): value.decode() for name, value in start["headers"]} if start else {}
    return (start["status"] if start else None), found, text, came


OWN = ["localhost", "localhost:8501", "LOCALHOST:1", "127.0.0.1:9000", "[::1]", "[::1]:8501", "localhost."]
FOREIGN = ["evil.example", "localhost.evil.example", "evil.example:8501", "", "user@localhost", "localhost:port",
           "127.0.0.1.evil.example", "0.0.0.0:8501", "[::]:8501", "localhost/../x@evil.example"]  # fmt: skip


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("host", OWN)
def test_this_machines_names_are_let_in(host: str, kind: str) -> None:
    came = asked(kind, host=host, origin=f"http://{host}")[-1]
    assert len(came) == 1
    # Streamlit is not asked about the origin: of one that it does not know it asks the internet.
    assert [name for name, _ in came[0]["headers"]] == [b"host"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_gets_421_and_a_sentence(host: str, kind: str) -> None:
    status, headers, text, came = asked(kind, host=host)
    assert (status, came) == (421, [])
    assert SETTING in text and text.count("\n") == 1
    assert headers["content-type"].startswith("text/plain") and headers["x-content-type-options"] == "nosniff"


def test_no_host_at_all_is_foreign() -> None:
    assert asked()[0] == 421


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://localhost.evil.example", "null", "file://", "localhost"]
)
def test_a_foreign_origin_gets_403_and_a_sentence(origin: str, kind: str) -> None:
    status, _, text, came = asked(kind, host="localhost:8501", origin=origin)
    assert (status, came) == (403, [])
    assert SETTING in text


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_name_of_ones_own_is_let_in_once_it_is_set(kind: str) -> None:
    assert asked(kind, host="lab.example", origin="https://lab.example")[0] == 421
    config.set_option("browser.serverAddress", "lab.example")
    try:
        assert len(asked(kind, host="lab.example", origin="https://lab.example")[-1]) == 1
        assert len(asked(kind, host="127.0.0.1:8501", origin="https://lab.example")[-1]) == 1  # as a proxy may ask
        assert asked(kind, host="other.example")[0] == 421
    finally:
        config.set_option("browser.serverAddress", "localhost")


REACHED = ["lab.example:80", "LAB.example.", "192.168.0.5:8501", "[fd00::5]", "[FD00::5]:8501", 61 * "lab." + "example"]


@pytest.mark.parametrize("host", REACHED)
def test_who_sets_what_the_refusal_says_is_let_in(host: str) -> None:
    said = asked(host=host)[2].split(f"{SETTING}=")[1].split()[0]
    for setting in (said, f"https://{host}/lab/", host):
        config.set_option("browser.serverAddress", setting)
        try:
            assert len(asked(host=host, origin=f"http://{host}")[-1]) == 1, setting
            assert asked(host="https")[0] == 421
        finally:
            config.set_option("browser.serverAddress", "localhost")


@pytest.mark.parametrize("host", ["0.0.0.0:8501", "[::]:8501", "", 70 * "lab." + "example"])
def test_what_is_no_name_is_not_advised(host: str) -> None:
    assert f"{SETTING}=NAME " in asked(host=host)[2]


def test_a_proxy_that_asks_by_another_name_is_told_on_its_page() -> None:
    assert asked(host="127.0.0.1:8501", **{"x-forwarded-host": "lab.example"})[0] == 421
    assert len(asked(host="127.0.0.1:8501", **{"x-forwarded-host": "localhost"})[-1]) == 1
    status, headers, script, came = asked(path="/static/js/index.js", host="127.0.0.1", origin="http://lab.example")
    assert (status, came) == (200, []) and headers["content-type"].startswith("text/javascript")
    assert f"{SETTING}=lab.example" in script


def test_every_answer_names_the_lab_alone_as_what_a_page_may_load() -> None:
    for host in ("localhost", "evil.example"):
        policy = asked(host=host)[1]["content-security-policy"]
        sources = {source for part in policy.split("; ") for source in part.split()[1:]}
        assert sources == {"'self'", "'unsafe-inline'", "'none'", "data:", "blob:"}
        assert policy.startswith("default-src 'self'; ")
