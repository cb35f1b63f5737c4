"""Requests to the engine, on Qt's event loop.

Owns: one QNetworkAccessManager without proxy, cookies or threads; JSON in and out as `engine.protocol`
shapes; event streams that resume where they broke off. Does not know what any request means, nor how the
engine is found and started (`engine_watch.py`). Every request ends in exactly one call, `ok` or `failed`,
unless the api is closed; a failure is an ErrorBody whose `text` is the sentence to show.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError
from PySide6.QtCore import QByteArray, QObject, QTimer, QUrl
from PySide6.QtNetwork import QNetworkAccessManager, QNetworkProxy, QNetworkReply, QNetworkRequest

from app.event_stream import EventStreamParser, ServerEvent
from engine.errors import EngineUnreachable
from engine.protocol import ErrorBody, Wire

REQUEST_TIMEOUT_S = 20.0
RESUME_PAUSE_MS = 150

W = TypeVar("W", bound=Wire)
Failed = Callable[[ErrorBody], None]


def unreachable(why: str) -> ErrorBody:
    """The sentence for an engine that cannot be reached because of `why`."""
    error = EngineUnreachable("The engine does not answer", why, "restart it with Model → Restart engine")
    return ErrorBody(code=error.code, text=error.text)


class EngineApi(QObject):
    """A client of one engine at a time."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._network = QNetworkAccessManager(self)
        self._network.setProxy(QNetworkProxy(QNetworkProxy.ProxyType.NoProxy))
        self._url = ""
        self._key = b""
        self._network.finished.connect(self._finished)
        self._open: dict[QNetworkReply, tuple[Callable[[bytes], None], Failed]] = {}
        self._streams: set[EventStream] = set()
        self._closed = False

    def connect_to(self, url: str, key: str) -> None:
        """From now on talk to this engine. What was under way to another one fails at once."""
        self._cancel_all("another engine has taken its place")
        self._url, self._key = url.rstrip("/"), key.encode("ascii")

    def close(self) -> None:
        """Drop everything, silently; no callback comes after this."""
        self._closed = True
        self._cancel_all("")

    def get(self, path: str, answer: type[W], ok: Callable[[W], None], failed: Failed) -> None:
        """`GET path` → `ok(answer)`."""
        self.send("GET", path, None, answer, ok, failed)

    def send(
        self,
        method: str,
        path: str,
        body: Wire | None,
        answer: type[W],
        ok: Callable[[W], None],
        failed: Failed,
        timeout_s: float | None = None,
    ) -> None:
        """`method path` with `body` as JSON → `ok(answer)`, else `failed(error)`."""

        def parse(data: bytes) -> None:
            try:
                parsed = answer.model_validate_json(data)
            except ValidationError:
                failed(unreachable("its answer could not be read, so it may be of another version"))
                return
            ok(parsed)

        self._start(method, path, body, parse, failed, timeout_s)

    def fetch(
        self, path: str, ok: Callable[[bytes], None], failed: Failed, timeout_s: float | None = None
    ) -> None:
        """`GET path` → `ok(content)`, for what is a file and no shape."""
        self._start("GET", path, None, ok, failed, timeout_s)

    def command(
        self,
        method: str,
        path: str,
        ok: Callable[[], None] | None = None,
        failed: Failed | None = None,
    ) -> None:
        """`method path` without a body and without interest in the answer's."""

        def done(_: bytes) -> None:
            if ok:
                ok()

        def refused(error: ErrorBody) -> None:
            if failed:
                failed(error)

        self._start(method, path, None, done, refused, None)

    def stream(
        self,
        path: str,
        on_events: Callable[[list[ServerEvent]], None],
        on_end: Callable[[ErrorBody | None], None],
        *,
        resumes: int = 0,
    ) -> "EventStream":
        """Server-sent events of `GET path`, those that arrived together in one call.

        A stream that ends before it was closed here is resumed up to `resumes` times in a row with
        Last-Event-ID; then comes `on_end(error)`, error None when nothing was wrong with its last end.
        """
        stream = EventStream(self, path, on_events, on_end, resumes)
        self._streams.add(stream)
        stream.begin()
        return stream

    def forget(self, stream: "EventStream") -> None:
        """For EventStream: it has ended."""
        self._streams.discard(stream)

    def request(self, path: str) -> QNetworkRequest:
        """For EventStream: a request with this engine's key."""
        request = QNetworkRequest(QUrl(self._url + path))
        request.setRawHeader(QByteArray(b"Authorization"), QByteArray(b"Bearer " + self._key))
        # Compression would make the engine hold text back, and costs more than it saves on one machine.
        request.setRawHeader(QByteArray(b"Accept-Encoding"), QByteArray(b"identity"))
        for attribute in (
            QNetworkRequest.Attribute.CookieLoadControlAttribute,
            QNetworkRequest.Attribute.CookieSaveControlAttribute,
        ):
            request.setAttribute(attribute, QNetworkRequest.LoadControl.Manual)
        request.setAttribute(QNetworkRequest.Attribute.Http2AllowedAttribute, False)
        request.setAttribute(
            QNetworkRequest.Attribute.RedirectPolicyAttribute,
            QNetworkRequest.RedirectPolicy.ManualRedirectPolicy,
        )
        return request

    @property
    def has_engine(self) -> bool:
        """An engine's address is known. It may be dead all the same."""
        return bool(self._url) and not self._closed

    @property
    def network(self) -> QNetworkAccessManager:
        """For EventStream."""
        return self._network

    def _start(
        self,
        method: str,
        path: str,
        body: Wire | None,
        done: Callable[[bytes], None],
        failed: Failed,
        timeout_s: float | None,
    ) -> None:
        if not self.has_engine:
            if not self._closed:
                QTimer.singleShot(0, self, lambda: failed(unreachable("it is not running")))
            return
        request = self.request(path)
        request.setTransferTimeout(round((timeout_s or REQUEST_TIMEOUT_S) * 1000))
        data = QByteArray()
        if body is not None:
            request.setHeader(QNetworkRequest.KnownHeaders.ContentTypeHeader, "application/json")
            data = QByteArray(body.model_dump_json().encode())
        reply = self._network.sendCustomRequest(request, QByteArray(method.encode()), data)
        self._open[reply] = (done, failed)

    def _finished(self, reply: QNetworkReply) -> None:
        # One slot for all replies: a closure at each reply would keep this object alive until that reply
        # is destroyed, and destroying both from there crashes.
        callbacks = self._open.pop(reply, None)
        if callbacks is None:
            return
        reply.deleteLater()
        done, failed = callbacks
        error = error_of(reply)
        if error is None:
            done(_all(reply))
        else:
            failed(error)

    def _cancel_all(self, why: str) -> None:
        waiting = list(self._open.items())
        self._open.clear()
        streams = list(self._streams)
        self._streams.clear()
        for reply, _ in waiting:
            reply.abort()
            reply.deleteLater()
        for stream in streams:
            stream.close()
        if self._closed:
            return
        error = unreachable(why)
        for _, (_, failed) in waiting:
            failed(error)
        for stream in streams:
            stream.end(error)


class EventStream:
    """One open stream; `close` ends it without a further call.

    Not a QObject: it is let go of from inside its own callbacks, which an object owned on two sides would
    not survive.
    """

    def __init__(
        self,
        api: EngineApi,
        path: str,
        on_events: Callable[[list[ServerEvent]], None],
        on_end: Callable[[ErrorBody | None], None],
        resumes: int,
    ) -> None:
        self._api, self._path = api, path
        self._on_events, self._on_end = on_events, on_end
        self._resumes, self._left = resumes, resumes
        self._last_id = ""
        self._reply: QNetworkReply | None = None
        self._parser = EventStreamParser()
        self._over = False

    def begin(self) -> None:
        """Open, or open again after the last event seen."""
        if self._over:
            return
        if not self._api.has_engine:
            QTimer.singleShot(0, self._api, lambda: self._end_unopened(unreachable("it is not running")))
            return
        request = self._api.request(self._path)
        request.setRawHeader(QByteArray(b"Accept"), QByteArray(b"text/event-stream"))
        if self._last_id:
            request.setRawHeader(QByteArray(b"Last-Event-ID"), QByteArray(self._last_id.encode()))
        self._parser = EventStreamParser()
        self._reply = self._api.network.get(request)
        self._reply.readyRead.connect(self._read)
        self._reply.finished.connect(self._finished)

    def close(self) -> None:
        """Let go of the stream; nothing is called any more."""
        self._over = True
        self._api.forget(self)
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.abort()
            reply.deleteLater()

    def end(self, error: ErrorBody | None) -> None:
        """Close, and tell why."""
        on_end = self._on_end
        self.close()
        on_end(error)

    def _end_unopened(self, error: ErrorBody) -> None:
        if not self._over:
            self.end(error)

    def _read(self) -> None:
        reply = self._reply
        if reply is None or reply.attribute(QNetworkRequest.Attribute.HttpStatusCodeAttribute) != 200:
            return
        events = self._parser.feed(_all(reply))
        if events:
            self._last_id = events[-1].id
            self._left = self._resumes
            self._on_events(events)

    def _finished(self) -> None:
        self._read()
        reply = self._reply
        if reply is None or self._over:
            return
        self._reply = None
        reply.deleteLater()
        error = error_of(reply)
        answered = reply.attribute(QNetworkRequest.Attribute.HttpStatusCodeAttribute)
        # Qt may take a connection that was cut for a whole answer, so an end without error proves nothing:
        # who has heard the last event that it waits for has closed the stream by itself.
        if answered in (None, 200) and self._left > 0:
            self._left -= 1
            # The lambda keeps this object until then; the binding does not keep a bound method's.
            QTimer.singleShot(RESUME_PAUSE_MS, self._api, lambda: self.begin())
            return
        self.end(error)


def error_of(reply: QNetworkReply) -> ErrorBody | None:
    """What went wrong with a finished reply, None if nothing did. Reads the body of an error answer."""
    status: Any = reply.attribute(QNetworkRequest.Attribute.HttpStatusCodeAttribute)
    if isinstance(status, int) and status >= 400:
        return _error_in(_all(reply), status)
    kind = reply.error()
    if kind == QNetworkReply.NetworkError.NoError:
        return None
    if kind == QNetworkReply.NetworkError.OperationCanceledError:
        return unreachable("no answer came in time")
    if kind == QNetworkReply.NetworkError.ConnectionRefusedError:
        return unreachable("it is not running")
    if kind == QNetworkReply.NetworkError.RemoteHostClosedError:
        return unreachable("it broke off in the middle")
    return unreachable(reply.errorString().rstrip("."))


def _all(reply: QNetworkReply) -> bytes:
    return bytes(reply.readAll().data())


def _error_in(data: bytes, status: int) -> ErrorBody:
    try:
        body: Any = json.loads(data)
        return ErrorBody.model_validate(body.get("error", body))
    except (ValueError, TypeError, AttributeError):
        return ErrorBody(
            code="internal",
            text=f"The engine refused the request: it answered {status} and gave no reason; try once more.",
        )
