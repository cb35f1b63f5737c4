"""What an answer has to look like, as a client asks for it.

Owns: the value, free of any dialect. Does not know how it is enforced (`encoding/`), token by token.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AnswerForm:
    """`json_schema`: JSON text of a schema that the whole text follows ("{}": any JSON object); None: any text.

    `calls`: "auto": as the model likes; "none": it makes none; "required": at least one; "named": one of
    `call_names`, and nothing else. `parallel`: it may make several. `strict`: arguments follow the schemas of the
    functions, whether or not the functions say so themselves.
    """

    json_schema: str | None = None
    calls: Literal["auto", "none", "required", "named"] = "auto"
    call_names: tuple[str, ...] = ()
    parallel: bool = True
    strict: bool = False

    @property
    def is_any(self) -> bool:
        """Whether nothing is asked for."""
        return self == ANY_FORM


ANY_FORM = AnswerForm()
