"""What computes a model where nobody has said it.

Owns: what "auto" means, and the reason. Pure; does not know how a backend is opened (`opening`).

llama.cpp in every case for now. The native engine is written to be exact and to come back to any state bit for bit
(docs/native.md), and is not the quicker one yet: a person who has not asked for it would only notice that.
"""

from typing import Literal

from engine.protocol_base import BackendChoice

Computes = Literal["llamacpp", "native"]


def computes(choice: BackendChoice) -> Computes:
    """What computes a model by that choice."""
    return "native" if choice == "native" else "llamacpp"
