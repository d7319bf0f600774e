"""A web server on this machine, so that downloads can be tested without a network."""

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator


class Site:
    """What the server has, by file name; `lies` adds to the length that it announces, `pause` slows it down."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.lies, self.pause = 0, 0.0
        self.asked: list[str] = []


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """A server until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            found.asked.append(name)
            if name not in found.files:
                self.send_error(404)
                return
            data = found.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data) + found.lies))
            self.end_headers()
            with contextlib.suppress(OSError):
                for start in range(0, len(data), 1000 if found.pause else len(data)):
                    self.wfile.write(data[start : start + 1000] if found.pause else data)
                    time.sleep(found.pause)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
