"""What makes a model's files, or what is asked of the network, unusable.

Owns: the three clauses of the sentence. Every failure of this room that a person can meet is a `ModelError`; the
backend tells it on as an error of the engine. Does not know which file or tensor it was about.
"""


class ModelError(Exception):
    """`what` cannot be used, `why`, and what to do (`hint`): clauses without a full stop."""

    def __init__(self, what: str, why: str, hint: str) -> None:
        self.what, self.why, self.hint = what, why, hint
        super().__init__(what, why, hint)

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; {self.hint}."


GET_AGAIN = "get the file again, or convert the checkpoint again"
"""What to do about a file that is not what it says."""
NEWER = "use a newer Seamount, or another file of this model"
"""What to do about a file that is in order but not known here."""
