#!/usr/bin/env python3
"""A service that runs can call: answers every POST with a made-up price. Python's standard library only.

    python3 examples/service.py --port 9001

Whom to answer, a real one learns from the session token: a JWT, to be verified with Carillon's /.well-known/jwks.json.
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(BaseHTTPRequestHandler):
    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print("run", call["log_id"], "asks for", call["arguments"], flush=True)
        self.answer({"symbol": call["arguments"]["symbol"], "price": 17.5})

    def do_OPTIONS(self):
        self.answer({})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--port", type=int, default=9001)
    ThreadingHTTPServer(("127.0.0.1", arguments.parse_args().port), Service).serve_forever()
