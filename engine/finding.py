"""One thing that was looked at, as a line in a terminal.

Owns: how well and unwell are told apart, and where what to do stands. Does not know what is looked at.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line: `what` was found; `remedy` says what to do when it is not well."""

    what: str
    well: bool = True
    remedy: str = ""

    @property
    def line(self) -> str:
        """As it is printed."""
        mark = "ok" if self.well else "!!"
        return f"{mark}  {self.what}" + (f": {self.remedy}" if self.remedy else "")
