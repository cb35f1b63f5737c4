"""What the engine process does before it serves. The whole of it runs in tests/integration."""

import contextlib

import pytest

from engine import serve
from engine.errors import PortTaken


def test_two_engines_that_begin_at_once_do_not_get_one_port() -> None:
    with contextlib.closing(serve._bound(0)) as first:
        port = first.getsockname()[1]
        # The first one does not serve yet: it opens its conversations and its model list.
        with pytest.raises(PortTaken) as raised:
            serve._bound(port)
        assert f"port {port}" in raised.value.text
        assert "--port" in raised.value.text
    serve._bound(port).close()
