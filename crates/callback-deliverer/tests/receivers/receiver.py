"""A receiver that verifies with the Python of docs/receiving.md, and decrypts with examples/decrypt_callback.py.

The path says which secrets are good: each of the query's `secret` must verify.
"""

import http.server
import sys
from urllib.parse import parse_qs, urlsplit

import decrypt_callback
import snippet


class Callback(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = parse_qs(urlsplit(self.path).query)
        try:
            for secret in query["secret"]:
                snippet.verify(headers, body, secret)
            snippet.verify_hub(headers, body, query["hub"][0])
            if headers["content-type"] == "application/jose":
                assert decrypt_callback.decrypt(body, query["secret"])["log_id"] == 41
            status = 204
        except Exception as error:
            print("receiver.py refuses:", repr(error), file=sys.stderr)
            status = 400
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Callback)
print(server.server_address[1], flush=True)
server.serve_forever()
