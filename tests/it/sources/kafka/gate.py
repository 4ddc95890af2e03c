"""A gate in front of a broker: gate.py PORT UPSTREAM [OPTION=VALUE...]. It speaks Kafka's protocol frame by frame.

  certificate=FILE key=FILE  it takes TLS
  sasl=MECHANISM             it takes this login alone, of user "reader" with password "canary-password"
  advertise=HOST:PORT        what the broker says of its own address becomes this; localhost:PORT without it
  break=N                    it sends half of the answer N to a request of these, and closes the connection: Metadata,
                             FindCoordinator, OffsetFetch, ListOffsets
  error=KEY:FROM:TO          in answers to requests of this key the two bytes FROM become TO, once, from the end
"""

import asyncio
import ssl
import struct
import sys

from scramp import ScramException, ScramMechanism

PORT, UPSTREAM = map(int, sys.argv[1:3])
OPTIONS = dict(option.split("=", 1) for option in sys.argv[3:])
MECHANISM = OPTIONS.get("sasl")
HOST, ADVERTISED = OPTIONS.get("advertise", f"localhost:{PORT}").rsplit(":", 1)
API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = 18, 17, 36
READING = {2, 3, 9, 10}
answers = 0


async def receive(reader):
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    if not 0 < length < 100 << 20:
        raise ValueError("no frame of Kafka's")
    return await reader.readexactly(length)


def frame(payload):
    return struct.pack(">i", len(payload)) + payload


def readdressed(payload):
    """With the gate's address where the broker tells its own, in old versions and in those with compact texts."""
    mine, theirs = HOST.encode(), b"127.0.0.1"
    ports = [struct.pack(">i", int(port)) for port in (UPSTREAM, ADVERTISED)]
    payload = payload.replace(struct.pack(">h", 9) + theirs + ports[0], struct.pack(">h", len(mine)) + mine + ports[1])
    return payload.replace(b"\x0a" + theirs + ports[0], bytes([len(mine) + 1]) + mine + ports[1])


class Login:
    def __init__(self):
        self.done = MECHANISM is None
        self.scram = None

    def answer(self, key, body):
        if key == SASL_HANDSHAKE:
            asked = body[2:].decode()
            if MECHANISM and MECHANISM.startswith("SCRAM") and asked == MECHANISM:
                mechanism = ScramMechanism(MECHANISM)
                info = mechanism.make_auth_info("canary-password", iteration_count=4096)
                self.scram = mechanism.make_server(lambda user: info if user == "reader" else None)
            name = (MECHANISM or "").encode()
            error = 34 if MECHANISM is None else 0 if asked == MECHANISM else 33
            return struct.pack(">hih", error, 1, len(name)) + name
        (length,) = struct.unpack(">i", body[:4])
        try:
            token = self.prove(body[4 : 4 + length])
        except (ScramException, KeyError, AttributeError, TypeError, ValueError):
            return struct.pack(">hhi", 58, -1, 0)
        return struct.pack(">hhi", 0, -1, len(token)) + token

    def prove(self, token):
        if MECHANISM == "PLAIN":
            if token != b"\0reader\0canary-password":
                raise ValueError
            self.done = True
            return b""
        if self.scram.stage is None:
            self.scram.set_client_first(token.decode())
            return self.scram.get_server_first().encode()
        self.scram.set_client_final(token.decode())
        self.done = True
        return self.scram.get_server_final().encode()


async def serve(reader, writer):
    global answers
    login = Login()
    try:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", UPSTREAM)
        while True:
            request = await receive(reader)
            key, version, correlation, client = struct.unpack(">hhih", request[:10])
            if key in (SASL_HANDSHAKE, SASL_AUTHENTICATE):
                # The tests' clients ask for version 0 or 1, in which the head has no more than this.
                answer = struct.pack(">i", correlation) + login.answer(key, request[10 + max(client, 0) :])
                if (key, version) == (SASL_AUTHENTICATE, 1):
                    answer += bytes(8)
            elif login.done or key == API_VERSIONS:
                up_writer.write(frame(request))
                answer = readdressed(await receive(up_reader))
            else:
                # As brokers do with whoever has not logged in.
                return
            if OPTIONS.get("error", "").startswith(f"{key}:"):
                _, old, new = OPTIONS["error"].split(":")
                old, new = (struct.pack(">h", int(text)) for text in (old, new))
                at = answer.rfind(old)
                answer = answer[:at] + new + answer[at + 2 :]
            answers += key in READING
            if key in READING and str(answers) == OPTIONS.get("break"):
                writer.write(frame(answer)[: 4 + len(answer) // 2])
                await writer.drain()
                return
            writer.write(frame(answer))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        pass
    finally:
        writer.close()
        if "up_writer" in locals():
            up_writer.close()


async def main():
    tls = None
    if "certificate" in OPTIONS:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(OPTIONS["certificate"], OPTIONS["key"])
    server = await asyncio.start_server(serve, "127.0.0.1", PORT, ssl=tls)
    async with server:
        await server.serve_forever()


asyncio.run(main())
