"""A long-lived program with gRPC's own xDS client, which makes a call when it is told to by HTTP.

    GRPC_XDS_BOOTSTRAP=bootstrap.json python caller.py PORT FOLDER_OF_THE_SCHEMA

GET /call?target=xds:///payments answers with what the call came to, as JSON. A target keeps its channel, as in a program
that is not restarted.
"""

import http.server
import json
import sys
import threading
import urllib.parse

import grpc

sys.path.append(sys.argv[2])
messages, services = grpc.protos_and_services("echo.proto")
channels = {}
lock = threading.Lock()


def call(target, user="", delay_ms="0", wait=""):
    with lock:
        channel = channels.get(target)
        if channel is None:
            channel = channels[target] = grpc.insecure_channel(target)
    request = messages.EchoRequest(text=target, delay_ms=int(delay_ms))
    try:
        # Shorter than the 15 s for which grpcio waits for a resource of which it hears nothing.
        answer = services.EchoStub(channel).Say(
            request, metadata=(("x-user", user),), timeout=12, wait_for_ready=bool(wait)
        )
        return {"upstream": answer.upstream}
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details()}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        body = json.dumps(call(**query) if url.path == "/call" else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
