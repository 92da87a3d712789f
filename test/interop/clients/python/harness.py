"""The conversation between a test and a client program: one JSON command a line in, one JSON answer a line out.

A group member answers with events until its input ends; then it leaves its group and ends.
"""

import base64
import json
import sys
import threading
import traceback


class Unsupported(Exception):
    """The client library cannot do what the command asks; the test skips with this text."""


def enc(b):
    return None if b is None else base64.b64encode(b).decode()


def dec(s):
    return None if s is None else base64.b64decode(s)


def emit(obj):
    sys.stdout.write(json.dumps(obj) + "\n")
    sys.stdout.flush()


def headers_in(rec):
    return [(k, dec(v)) for k, v in rec.get("h") or []]


def record(p, o, k, v, h, ts):
    return {"p": p, "o": o, "k": enc(k), "v": enc(v), "h": [[n, enc(x)] for n, x in h or []], "ts": ts}


def serve(handlers):
    for line in iter(sys.stdin.readline, ""):
        cmd = json.loads(line)
        name = cmd["cmd"]
        try:
            if name not in handlers:
                raise Unsupported(name + " is not offered by this client")
            if name == "group":
                stop = threading.Event()
                threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
                handlers[name](cmd, stop)
                emit({"ev": "closed"})
                return
            emit(handlers[name](cmd) or {})
        except Unsupported as e:
            emit({"unsupported": str(e)})
        except BaseException as e:
            emit({"error": "%s: %s\n%s" % (type(e).__name__, e, traceback.format_exc())})
