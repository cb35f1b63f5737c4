"""What models wrote for the programs of one key, found again by the ids of its calls.

Owns: keeping the keys apart. An id of a call is no secret: it stands in the logs of programs and in the conversations
that they share. So what was written for one key is known to no other, whatever id is named. Does not know where it is
kept (`store.calls`), or what is done with it (`encoding.dialects`).
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from engine.callers import WINDOW_KEY
from engine.errors import SeamountError

if TYPE_CHECKING:
    from engine.completions import CallMemory


_logger = logging.getLogger(__name__)


class KeyCalls:
    """The memory `of_all`, as far as it is the key's; a `CallMemory` too.

    With the engine's own key the calls of the window's conversations are found, which no other key sees.
    """

    def __init__(self, of_all: "CallMemory", key_id: str) -> None:
        self._of_all = of_all
        self._before = "" if key_id == WINDOW_KEY else f"{key_id}/"

    def remember_calls(self, call_ids: Sequence[str], reasoning: str, token_ids: Sequence[int]) -> None:
        """Keep the reasoning and tokens of the answer that made these calls. Raises what the memory raises."""
        self._of_all.remember_calls([self._before + each for each in call_ids], reasoning, token_ids)

    def recall(self, call_ids: Sequence[str]) -> Mapping[str, tuple[str, Sequence[int]]]:
        """What is known of each call; nothing where it cannot be read, as while conversations are locked: an answer is
        worth more than the reasoning before it."""
        try:
            found = self._of_all.recall([self._before + each for each in call_ids])
        except SeamountError as error:
            _logger.warning("%s", error.text)
            return {}
        return {name.removeprefix(self._before): known for name, known in found.items()}
