#!/usr/bin/env python3
"""Reference client of the device socket (docs/socket.md); Python 3 standard library only.
Prints each new message and each control as a JSON line, acknowledges it, and may report on it."""
import argparse, base64, collections, hashlib, json, os, random, struct, sys, time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

SILENCE_SECONDS = 75  # the server pings every 30 s: nothing for this long is a dead connection
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10  # frame types of RFC 6455
FINAL = {401, 403, 4001, 4002}  # statuses and close codes after which the same would come again

class Connection:
    """A WebSocket; raises ConnectionError(HTTP status or close code, text) when it ends."""
    def __init__(self, args):
        now = str(int(time.time() * 1000))  # the sign covers path, body (none), app, key and time
        sign = hashlib.sha256(f"/connect{args.app_id}{args.app_key}{now}".encode()).hexdigest()
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
                   "appId": args.app_id, "clientId": args.client_id, "timestamp": now,
                   "appPackage": args.app_package, "sign": sign, "accessToken": args.access_token}
        url = urlsplit(args.url.rstrip("/") + "/connect")
        scheme = HTTPSConnection if url.scheme == "https" else HTTPConnection
        self.http = scheme(url.netloc, timeout=SILENCE_SECONDS)
        self.http.request("GET", url.path, headers={k: v for k, v in headers.items() if v})
        answer = self.http.getresponse()
        if answer.status != 101:
            raise ConnectionError(answer.status, answer.read().decode())
        self.stream = answer.fp  # from here on it carries frames

    def receive(self):
        """The next text frame, as JSON; pings on the way are answered."""
        while True:
            first, size = self.stream.read(2)  # a ValueError if the stream ended
            if size >= 126:
                size = int.from_bytes(self.stream.read(2 if size == 126 else 8), "big")
            kind, data = first & 15, self.stream.read(size)
            if kind == TEXT:  # the server never splits one
                return json.loads(data)
            if kind == PING:
                self.write(PONG, data)
            if kind == CLOSE:
                self.write(CLOSE, data[:2])
                raise ConnectionError(int.from_bytes(data[:2], "big") or 1005, data[2:].decode())

    def write(self, kind, data):  # masked, as a client's must be; ours never exceed 125 bytes
        mask, head = os.urandom(4), bytes([128 | kind, 128 | len(data)])
        self.http.sock.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

def listen(connection, args, known, unsure):
    """Answers what comes until enough messages are here and the reports on them durable."""
    def send(**frame):
        connection.write(TEXT, json.dumps(frame).encode())
    for id in unsure:  # the report or its receipt was lost with the connection before
        send(t="report", id=id, status=args.report)
    while args.count > 0 or unsure:
        frame = connection.receive()
        kind, id = frame["t"], frame.get("id")
        if kind == "message" and (id in known or args.count > 0):
            if id not in known:
                print(json.dumps(frame, ensure_ascii=False), flush=True)
                known.append(id)  # a real device keeps what it knows on disk
                args.count -= 1
            send(t="ack", id=id)  # once the app has it; again when it comes again
            if args.report:
                unsure.add(id)
                send(t="report", id=id, status=args.report)
        elif kind == "control":
            print(json.dumps(frame), flush=True)
            late = id in known and args.report in (3, 4)  # it was displayed: say so again
            said = {"t": "report", "status": args.report}
            send(id=id, **(said if late else {"t": "ack", "op": frame["op"]}))
        elif kind in ("receipt", "refused"):
            unsure.discard(id)
    connection.write(CLOSE, struct.pack(">H", 1000))
    while True:  # until the server's goodbye, which shows that it read the acks
        connection.receive()

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8600")
    for name in ("--app-id", "--app-key", "--client-id", "--app-package", "--access-token"):
        parser.add_argument(name, required=name != "--access-token")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="messages to wait for")
    parser.add_argument("--report", type=int, choices=(2, 3, 4), help="status to report of each")
    args, known, unsure, wait = parser.parse_args(), collections.deque(maxlen=10_000), set(), 1
    while True:
        try:
            connection = Connection(args)
            wait = 1
            listen(connection, args, known, unsure)
        except (OSError, ValueError, HTTPException) as error:
            if args.count <= 0 and not unsure:
                return
            print(*error.args, file=sys.stderr)
            if FINAL.intersection(error.args):
                sys.exit(1)
        time.sleep(wait * random.uniform(0.5, 1))  # not all devices at the same moment
        wait = min(wait * 2, 60)

main()
