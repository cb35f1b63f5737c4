"""The one error of a conversion or a verification, in the clauses that a person is told.

Owns: the error and its kinds. Does not know who tells it: `engine` turns it into its own hierarchy.
"""

from typing import Literal

Trouble = Literal[
    "checkpoint", "unsupported", "options", "changed", "busy", "disk_full", "target", "stopped", "different"
]


class ConversionError(Exception):
    """What failed, why, and what to do: clauses without a closing full stop."""

    def __init__(self, trouble: Trouble, what: str, why: str, remedy: str) -> None:
        self.trouble: Trouble = trouble
        self.what, self.why, self.remedy = what, why, remedy
        super().__init__(trouble, what, why, remedy)

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; {self.remedy}."
