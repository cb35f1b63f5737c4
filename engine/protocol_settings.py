"""What a person can choose, as it crosses the wire.

Owns: `Settings`: names, ranges and defaults. Does not know the file that they are kept in (`settings`) or what they are
used for. `protocol` hands it on, and that is where it is imported from.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol_base import BackendChoice, CacheType, ReasoningMode, Sampling, Wire


class Settings(Wire):
    """`GET` and `PUT /api/settings`; kept in settings.toml. `model_id` None: the starter model."""

    model_id: str | None = None
    system_message: str = "You are a helpful assistant."
    sampling: Sampling | None = None
    """None: what suits the loaded model."""
    context_tokens: Annotated[int, Field(ge=256, le=1_048_576)] = 8192
    answer_tokens: Annotated[int, Field(ge=0, le=1_048_576)] = 4096
    """An answer stops here and can be continued, so that one that runs in circles ends; 0: the context's end."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """0: as many as this machine has free, less one."""
    cache_type: CacheType = "f16"
    """How a conversation is kept in memory: Q8_0 takes half of F16, F32 twice as much."""
    backend: BackendChoice = "auto"
    """What computes models."""
    mode: ReasoningMode = "high"
    """For a turn that names none."""
    thinking_tokens: Annotated[int, Field(ge=0, le=1_048_576)] = 0
    """The model is told to answer after so many tokens of reasoning; 0: when it wishes."""
    model_titles: bool = True
    """A V4 model names a new conversation after its first answer."""
    release: str | None = None
    """The release profile of a V4 model whose file does not name its release."""
    llama_cpp_folder: Annotated[str, Field(max_length=4096)] | None = None
    """The build of llama.cpp that the engine uses from its next start on; None: llama-cpp-python's own."""
    checkpoints_folder: Annotated[str, Field(max_length=4096)] | None = None
    """Where checkpoints are fetched to, a whole path, as of another disk; None: the models folder."""
    hub_endpoint: Annotated[str, Field(max_length=500)] | None = None
    """A mirror's address; None: what HF_ENDPOINT says, else the hub itself."""
    offline: bool = False
    """The hub is never asked."""
    download_streams: Annotated[int, Field(ge=1, le=16)] = 4
    """Files that a job fetches at the same time."""
    download_limit_mb_s: Annotated[float, Field(ge=0, le=100_000)] = 0
    """Megabytes (10^6) a second that a job fetches at most; 0: as fast as it goes."""
    keep_awake: bool = True
    """The machine does not fall asleep while a job runs."""
    allowed_origins: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=32)] = []
    """Origins of web pages that may call the engine from a browser, as `http://localhost:3000`; others are refused."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where other programs find the engine on this machine, from its next start on; 0: the one before, or any other
    that is free."""
    look_for_updates: bool = False
    """Once a day a small file is asked whether there is a newer version; nothing is downloaded."""
    updates_address: Annotated[str, Field(max_length=500)] | None = None
    """The address of that file, https; None: what the build was given, if any."""
    resume: Literal["continue", "offer"] = "continue"
    """What becomes of an answer that the end of an engine cut off: it goes on by itself, or when it is asked for."""
    journal_sync_ms: Annotated[int, Field(ge=0, le=60_000)] = 100
    """What was shown is on the disk, safe from a power cut, after so many milliseconds; 0: before it is shown."""
    snapshots_gb: Annotated[float, Field(ge=0, le=100_000)] = 20
    """Disk space (10^9 bytes) for what models have read, so that it is not read again; 0: none is kept."""
