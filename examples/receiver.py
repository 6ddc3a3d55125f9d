#!/usr/bin/env python3
"""Receives the callbacks of periodic agents, verifies their signature, and shows what arrives.

Python 3.9 or later, standard library only. See --help.
"""

import argparse
import hashlib
import hmac
import json
import os
import signal
import socket
import socketserver
import sys
import threading
from collections import OrderedDict
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler

EXAMPLE = """\
example:
  python3 examples/receiver.py --port 9000 --secret s3cret

  Then create a periodic agent with
    "callback_url": "http://localhost:9000/callback", "callback_secret": "s3cret"

answers:
  204 the signature is right; 400 it is not, or the body cannot be read; 411, 413 no length, or too much
"""

BODY_BYTES_MAX = 16 * 1024 * 1024
REMEMBERED_MAX = 100_000


def signature_is_valid(received_signature, payload, callback_secret):
    """The algorithm of the original document: HMAC-SHA256 of the raw body, in hexadecimal digits."""
    if not received_signature.startswith("sha256="):
        return False
    received_signature = received_signature[len("sha256=") :]
    expected_signature = hmac.new(callback_secret.encode(), payload, hashlib.sha256).hexdigest()
    # As bytes: what is not ASCII is wrong, not an exception.
    return hmac.compare_digest(received_signature.encode("utf-8", "replace"), expected_signature.encode())


def latency_ms(timestamp, now):
    """Milliseconds from `timestamp` (RFC 3339) until `now`; None if it is no such thing."""
    try:
        # Before Python 3.11 fromisoformat knows neither Z nor fractions of any length.
        text = timestamp.upper().replace("Z", "+00:00")
        head, dot, tail = text.partition(".")
        if dot:
            digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
            text = f"{head}.{digits[:6]:0<6}{tail[len(digits):]}"
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return round((now - moment).total_seconds() * 1000, 1)
    except (AttributeError, TypeError, ValueError):
        return None


class Seen:
    """Which webhook ids arrived before; forgets the oldest when there are too many."""

    def __init__(self):
        self._ids = OrderedDict()

    def add(self, webhook_id):
        """Returns whether this id was here before."""
        if not webhook_id:
            return False
        before = webhook_id in self._ids
        self._ids[webhook_id] = True
        self._ids.move_to_end(webhook_id)
        if len(self._ids) > REMEMBERED_MAX:
            self._ids.popitem(last=False)
        return before


class Receiver(socketserver.ThreadingTCPServer):
    """Not http.server's own, which looks up this host's full name first: that can take seconds."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, options):
        if ":" in options.listen:
            self.address_family = socket.AF_INET6
        super().__init__((options.listen, options.port), Callback)
        self.options = options
        self.lock = threading.Lock()
        self.seen = Seen()
        self.verified = 0
        self.done = threading.Event()

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            print(f"{client_address[0]}: {type(error).__name__}: {error}", file=sys.stderr)


class Callback(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True

    def do_POST(self):
        received_at = datetime.now(timezone.utc)
        body = self.read_body()
        if body is None:
            return
        signature = self.headers.get("X-Hub-Signature-256", "")
        valid = signature_is_valid(signature, body, self.server.options.secret)
        payload = parse(body)
        report = {
            "received_at": received_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "verified": valid,
            "problem": None,
            "path": self.path.partition("?")[0],
            "webhook_id": self.headers.get("webhook-id"),
            "seen_before": False,
            "event": None,
            "status": None,
            "log_id": None,
            "timestamp": None,
            "latency_ms": None,
            "agent_output": None,
            "bytes": len(body),
        }
        if payload is not None:
            for key in ("event", "status", "log_id", "timestamp", "agent_output"):
                report[key] = payload.get(key)
            report["latency_ms"] = latency_ms(payload.get("timestamp"), received_at)
        if not valid:
            report["problem"] = "wrong signature" if signature else "no X-Hub-Signature-256 header"
        elif payload is None:
            report["problem"] = "the body is no JSON object"

        accepted = report["problem"] is None
        # The answer first, so that nobody waits for this terminal; but the end only after it has left.
        self.answer(204 if accepted else 400)
        show(self.server, report, accepted)

    def read_body(self):
        """The raw body, or None after an answer that says why not."""
        if self.headers.get("Transfer-Encoding"):
            return self.refuse(411)
        try:
            length = int(self.headers.get("Content-Length", ""))
            if length < 0:
                raise ValueError
        except ValueError:
            return self.refuse(411)
        if length > BODY_BYTES_MAX:
            return self.refuse(413)
        body = self.rfile.read(length)
        return body if len(body) == length else self.refuse(400)

    def refuse(self, status):
        self.close_connection = True
        self.answer(status)
        print(f"{self.client_address[0]}: refused with {status}", file=sys.stderr)

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()

    def log_message(self, *_):
        """Every callback is shown anyway."""


def parse(body):
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def show(server, report, accepted):
    """Prints one callback and counts it."""
    with server.lock:
        if server.done.is_set():
            return
        if accepted:
            server.verified += 1
            report["seen_before"] = server.seen.add(report["webhook_id"])
        line = json.dumps(report) if server.options.json else in_words(report)
        print(printable(line), flush=True)
        if server.options.exit_after and server.verified >= server.options.exit_after:
            server.done.set()


def in_words(report):
    time = report["received_at"][11:]
    latency = report["latency_ms"]
    parts = [
        "verified" if report["verified"] else "NOT VERIFIED",
        f"event={report['event']}" if report["event"] not in (None, "run.finished") else None,
        f"status={report['status']}",
        f"log_id={report['log_id']}",
        f"latency={'?' if latency is None else f'{latency:.1f} ms'}",
        f"webhook-id={report['webhook_id'] or 'none'}",
        "seen before" if report["seen_before"] else "first time",
        f"{report['bytes']} bytes",
    ]
    if report["problem"]:
        parts = ["REFUSED", report["problem"], f"{report['bytes']} bytes"]
    line = f"{time}  " + "  ".join(part for part in parts if part)
    output = report["agent_output"]
    if not report["problem"] and isinstance(output, str) and output:
        first = " ".join(output.split())
        line += "\n              output: " + (first if len(first) <= 160 else first[:159] + "…")
    return line


def printable(line):
    """What arrives must not steer the terminal; and a terminal may not know every character."""
    line = "".join(char if char == "\n" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    encoding = sys.stdout.encoding or "utf-8"
    return line.encode(encoding, "replace").decode(encoding)


def port_number(text):
    if text.isdecimal() and int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be 0-65535, got {text}")


def positive(text):
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")


def read_options():
    parser = argparse.ArgumentParser(
        description="Receives the callbacks of periodic agents, verifies their signature, and shows what arrives.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="address (default: %(default)s)")
    parser.add_argument(
        "--port", type=port_number, default=9000, help="port; 0 picks a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--secret",
        default=os.environ.get("CALLBACK_SECRET"),
        help="the agent's callback_secret (default: the variable CALLBACK_SECRET)",
    )
    parser.add_argument(
        "--exit-after", type=positive, metavar="N", help="exit with 0 after N verified callbacks (default: never)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for each callback")
    options = parser.parse_args()
    if not options.secret:
        parser.error("--secret is needed: the callback_secret of the periodic agent")
    return options


def main():
    options = read_options()
    try:
        server = Receiver(options)
    except OSError as error:
        print(f"cannot listen on {options.listen}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    host, port = server.server_address[:2]
    host = f"[{host}]" if ":" in host else host
    ready = {"listening": f"http://{host}:{port}/", "port": port}
    print(json.dumps(ready) if options.json else f"listening on {ready['listening']}  (Ctrl-C stops)", flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.done.set())
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    server.done.wait()
    server.shutdown()
    server.server_close()
    enough = options.exit_after is None or server.verified >= options.exit_after
    if not options.json:
        print(f"{server.verified} verified")
    return 0 if enough else 130


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        # Whoever read the output has gone.
        sys.stdout = open(os.devnull, "w")
        sys.exit(0)
