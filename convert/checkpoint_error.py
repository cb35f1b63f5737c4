"""What makes a checkpoint, or one of its files, unusable.

Owns: the kinds of trouble and the two clauses of the sentence. What to do about each kind is said by the
engine, which knows where the person stands.
"""

from typing import Literal

Problem = Literal[
    "unreadable",  # not there, no permission, not an ordinary file, a loop of links
    "truncated",  # a file that ends before its tensors do
    "not_safetensors",  # something else in a shard's place
    "damaged",  # a file that contradicts itself or the format
    "unsupported",  # in order, but not what this program knows
    "not_checkpoint",  # no config or no weights
    "incomplete",  # shards that are not there
    "inconsistent",  # index and shards contradict each other
    "unsafe",  # an index that points outside its folder
]


class CheckpointError(Exception):
    """`what` cannot be used and `why`: clauses without a full stop.

    `shard`: the name of the one that it is about, where it is known.
    """

    problem: Problem

    def __init__(self, problem: Problem, what: str, why: str, shard: str | None = None) -> None:
        self.problem, self.what, self.why, self.shard = problem, what, why, shard
        super().__init__(problem, what, why)

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"
