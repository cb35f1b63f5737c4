"""An HTTP proxy that notes what it was asked, for plain http: addresses.

with RecordingProxy({"hub.invalid": hub.port}) as proxy:      # name → port on this machine that it stands for
    ... HTTP_PROXY=proxy.address ...
    assert proxy.asked == ["http://hub.invalid/api/models/...", ...]
"""

import http.client
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_OWN = {"proxy-connection", "proxy-authorization", "connection", "keep-alive"}


class RecordingProxy:
    """A proxy on a thread of this process. `password`: "NAME:PASSWORD" that it wants, base64; None: it asks nobody."""

    def __init__(self, hosts: dict[str, int], password: str | None = None) -> None:
        self.hosts, self.password = hosts, password
        self.asked: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner._pass_on(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _pass_on(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        given = request.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
        if self.password is not None and given != self.password:
            request.send_response(407)
            request.send_header("Proxy-Authenticate", "Basic")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        address = urllib.parse.urlsplit(request.path)
        port = self.hosts.get(address.hostname or "", address.port or 80)
        target = http.client.HTTPConnection("127.0.0.1", port)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
        target.request("GET", request.path.removeprefix(f"http://{address.netloc}"), headers=headers)
        answer = target.getresponse()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "date", "server"):
                request.send_header(name, value)
        request.end_headers()
        while piece := answer.read(1 << 16):
            request.wfile.write(piece)
        target.close()
