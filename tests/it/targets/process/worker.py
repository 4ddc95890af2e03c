"""Works on a list in Redis, one job at a time, until it is told to end.

It follows the protocol of the process target: busy before it takes a job, idle after it, and at its end where it cannot say
that it is busy. A job is in one of three lists at any time: queue, processing, done.
"""

import os
import signal
import socket
import sys
import time

port, seconds = int(sys.argv[1]), float(sys.argv[2])
busy = os.environ["TIDEGATE_BUSY_FILE"]
name = os.environ["TIDEGATE_TOKEN"]
stream = socket.create_connection(("127.0.0.1", port)).makefile("rwb")
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))


def redis(*words):
    words = [str(word).encode() for word in words]
    stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    stream.flush()
    line = stream.readline()
    if line[:1] == b":":
        return int(line[1:])
    if line[:1] == b"$":
        length = int(line[1:])
        return None if length < 0 else stream.read(length + 2)[:-2].decode()
    raise SystemExit(f"Redis says {line!r}")


redis("RPUSH", "started", name)
while not told:
    try:
        open(busy, "x").close()
    except FileNotFoundError:
        break
    except FileExistsError:
        # Its own: it could not remove it in the moment in which it was looked for.
        pass
    job = redis("LMOVE", "queue", "processing", "LEFT", "RIGHT")
    if job is not None:
        time.sleep(seconds)
        redis("RPUSH", "done", job)
        redis("LREM", "processing", 1, job)
    try:
        os.remove(busy)
    except FileNotFoundError:
        pass
    if job is None:
        time.sleep(0.05)
redis("RPUSH", "ended", name)
