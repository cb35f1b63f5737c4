"""The smallest shapes on the wire, which the others are made of.

Owns: the base of every shape, errors, sampling, and the words that stand for kinds of things. `protocol` hands all of
it on, and that is where it is imported from.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant", "tool"]
MessageStatus = Literal["complete", "running", "interrupted", "failed"]
FinishReason = Literal["stop", "length", "tool_calls", "cancelled", "interrupted", "error"]
ReasoningMode = Literal["non-think", "high", "max"]
Part = Literal["text", "reasoning"]
CacheType = Literal["f16", "f32", "q8_0"]
"""How the numbers of a context are kept: `engine.placement.context_sizes` has what each takes."""
BackendChoice = Literal["auto", "llamacpp", "native"]
"""What computes a model: what suits it best, llama.cpp, or Seamount's own engine (DeepSeek-V4 alone)."""


class Wire(BaseModel):
    """Base of every shape: unknown fields are ignored on reading, so old clients meet new engines."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ErrorBody(Wire):
    """A `SeamountError` on the wire. `text` is the sentence a person is shown."""

    code: str
    text: str


class Sampling(Wire):
    """How the next token is drawn. `seed` None: the engine draws one and reports it in Usage."""

    temperature: Annotated[float, Field(ge=0, le=10)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.05
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class ModeChoice(Wire):
    """A reasoning mode of the loaded model. `problem`: why it cannot be chosen now, as a sentence."""

    mode: ReasoningMode
    problem: str | None = None
