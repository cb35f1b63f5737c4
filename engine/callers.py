"""Who asks: a program that came in through the door with a key.

Owns: the value that goes with a request from the door to the queue. Does not know keys' secrets, HTTP, or what is
asked.
"""

from dataclasses import dataclass, field

from engine.protocol_access import KeyLimits, SteadyRules

WINDOW_KEY = "window"
"""The id that stands for the engine's own key, which windows and commands find in `engine.json`."""


@dataclass(frozen=True)
class Caller:
    """One program. `program` is what it says of itself (cleaned, short), `address` where it is."""

    key_id: str = WINDOW_KEY
    key_name: str = "Seamount"
    program: str = ""
    address: str = ""
    is_network: bool = False
    """It came over the network's own socket, not over loopback."""
    limits: KeyLimits = field(default_factory=KeyLimits)
    steady: SteadyRules = field(default_factory=SteadyRules)


WINDOW = Caller()
"""Seamount's own window or command."""
