"""Web servers on loopback that answer by a function, for tests of what is fetched from an address."""

import http.server
import threading
from contextlib import contextmanager
from types import SimpleNamespace


@contextmanager
def serving(answer):
    """A server's ``url``, and what it was ``asked``: a path and headers for each request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(SimpleNamespace(path=self.path, headers=self.headers))
            answer(self)

        def log_message(self, *_):
            pass

    asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", asked=asked)
    server.shutdown()
    server.server_close()


def send(handler, body=b"", status=200, **headers):
    """A whole answer; in names of headers, _ is -."""
    handler.send_response(status)
    for name, value in {"Content_Length": len(body), **headers}.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def sending(body, etag='"one"'):
    """The answer of a server that has one file, and knows whether a client has it."""

    def answer(handler):
        if handler.headers.get("If-None-Match") == etag:
            send(handler, status=304)
        else:
            send(handler, body, ETag=etag)

    return answer
