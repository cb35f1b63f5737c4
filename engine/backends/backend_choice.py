"""What computes a model where nobody has said it.

Owns: what "auto" means, and the reason. Pure; does not know how a backend is opened (`opening`).

llama.cpp in every case for now. The native engine gives the same answers and can be brought back to any state bit for
bit, but on the machines that were measured it reads and writes fewer tokens a second (docs/native.md), and a person who
has not asked for it would only notice that.
"""

from typing import Literal

from engine.protocol_base import BackendChoice

Computes = Literal["llamacpp", "native"]


def computes(choice: BackendChoice) -> Computes:
    """What computes a model by that choice."""
    return "native" if choice == "native" else "llamacpp"
