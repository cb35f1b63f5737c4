"""The network's socket over real TLS, with an application that answers at once."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.access import certificates
from engine.errors import BadRequest, PortTaken
from engine.server.connection import Patience
from engine.server.network_listener import NetworkListener

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    del receive
    body = scope["scheme"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> certificates.Shown:
    root = tmp_path_factory.mktemp("pair")
    return certificates.generated(root / "certificate.pem", root / "key.pem", ["localhost", "127.0.0.1"])


def run(
    shown: certificates.Shown,
    story: Callable[[NetworkListener], Awaitable[None]],
    patience: Patience | None = None,
) -> None:
    async def whole() -> None:
        context = certificates.context(shown)
        listener = NetworkListener.open(
            application, ["127.0.0.1"], 0, 0, context, patience or Patience(connections=8, per_address=8)
        )
        try:
            await story(listener)
        finally:
            await listener.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", listener.port)

    asyncio.run(asyncio.wait_for(whole(), 60))


def client(shown: certificates.Shown) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(shown.certificate_path))


async def ask(port: int, context: ssl.SSLContext, **more: Any) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost", **more
    )
    writer.write(REQUEST)
    answer = await reader.read()
    writer.close()
    return answer


def test_a_client_that_trusts_the_certificate_is_served_and_no_other(shown: certificates.Shown) -> None:
    async def story(listener: NetworkListener) -> None:
        assert (await ask(listener.port, client(shown))).endswith(b"https")
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(listener.port, ssl.create_default_context())
        old = client(shown)
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await ask(listener.port, old)).endswith(b"https")
        # Without TLS there is no answer in the clear.
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(REQUEST)
        assert b"HTTP" not in await reader.read()
        writer.close()

    run(shown, story)


def test_the_fingerprint_is_that_of_what_is_shown(shown: certificates.Shown) -> None:
    import hashlib

    async def story(listener: NetworkListener) -> None:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=client(shown), server_hostname="localhost"
        )
        content = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert hashlib.sha256(content).hexdigest().upper() == shown.fingerprint.replace(":", "")
        writer.close()

    run(shown, story)


def test_a_handshake_that_does_not_end_counts_and_makes_room_for_one_that_does(
    shown: certificates.Shown,
) -> None:
    async def story(listener: NetworkListener) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(2)]
        while len(listener._crowd) < 2:
            await asyncio.sleep(0.001)
        assert (await ask(listener.port, client(shown))).endswith(b"https")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(silent[0][0].read(), 20) == b""
        for _, writer in silent:
            writer.close()
        while len(listener._crowd):
            await asyncio.sleep(0.001)
        assert (await ask(listener.port, client(shown))).endswith(b"https")
        while len(listener._crowd):
            await asyncio.sleep(0.001)

    run(shown, story, Patience(connections=8, per_address=2))


def test_who_is_in_is_sent_away_when_it_closes(shown: certificates.Shown) -> None:
    async def story(listener: NetworkListener) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=client(shown), server_hostname="localhost"
        )
        while not listener._state.connections:
            await asyncio.sleep(0.001)
        await listener.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert await reader.read() == b""
        writer.close()

    run(shown, story)


def test_a_port_or_an_address_that_cannot_be_had_is_said(shown: certificates.Shown) -> None:
    context = certificates.context(shown)

    async def story() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            with pytest.raises(PortTaken, match=f"port {taken}"):
                NetworkListener.open(application, ["127.0.0.1"], taken, 0, context)
            listener = NetworkListener.open(application, ["127.0.0.1"], 0, taken, context)
            assert listener.port != taken
            await listener.close()
        for address in ("192.0.2.77", "localhost", "", "::1%x", "fe80::1"):
            with pytest.raises(BadRequest, match="cannot listen"):
                NetworkListener.open(application, [address], 0, 0, context)

    asyncio.run(story())


def test_all_addresses_share_one_port(shown: certificates.Shown, tmp_path: Path) -> None:
    del tmp_path

    async def story() -> None:
        listener = NetworkListener.open(application, [], 0, 0, certificates.context(shown))
        assert {each.getsockname()[1] for each in listener._sockets} == {listener.port}
        assert (await ask(listener.port, client(shown))).endswith(b"https")
        await listener.close()

    asyncio.run(story())
