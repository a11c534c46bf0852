"""Write down each HTTP request and answer 404: listener.py PORT_FILE LOG."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Listener(BaseHTTPRequestHandler):
    def do_GET(self):
        token = self.headers.get("x-amz-security-token")
        with open(sys.argv[2], "a") as log:
            log.write(f"{self.command} {self.path} token={token}\n")
        self.send_response(404)
        self.end_headers()

    do_HEAD = do_PUT = do_POST = do_GET

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
Path(sys.argv[1]).write_text(str(server.server_port))
server.serve_forever()
