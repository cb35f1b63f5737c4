"""llama.cpp as a backend: any GGUF, any hardware its build reaches.

Owns: everything that touches `llama_cpp` (its low-level functions, one model and one context); importing
this module loads that library. Does not know of chat templates' meaning, sampling or sessions.

Interrupting: `cancelled` is asked between prefill chunks and, while a chunk is computed, between its
operations (llama.cpp's abort callback; its CPU backend only, a GPU finishes its chunk). A chunk broken off
leaves the context in doubt, so afterwards it is brought back to what is sound (`LlamaMemory.mend`). `step` is
never interrupted: it is one token, and calling back into Python per operation would slow every token.

What has been read is kept as far as the memory allows. DeepSeek-V4's cannot be cut back, so states of it are
kept where reading pauses anyway: before each chunk, which is the end of the last answer and every
`CHUNK_TOKENS` of a prompt, and shortly before the end of a prompt. There the next answer to the same question
begins, and there the next turn goes another way, since the reasoning that followed is left out of it.
"""

import ctypes
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engine.backends.base import (
    Cancelled,
    ContextState,
    ExpertCounts,
    Logits,
    ModelFacts,
    Room,
    SyncReport,
    TakenBytes,
)
from engine.backends.cores import threads_to_use
from engine.backends.llama_batch import Batch
from engine.backends.llama_keys import with_keys
from engine.backends.llama_library import llama
from engine.backends.llama_loading import (
    UNREWINDABLE,
    architecture_of,
    begin_log,
    load_model,
    log,
    read_facts,
    trained_before,
)
from engine.backends.llama_log import taken_bytes
from engine.backends.llama_memory import LlamaMemory
from engine.backends.llama_placement import set_parameters
from engine.backends.llama_vocabulary import GgufVocabulary
from engine.errors import GenerationError, ModelLoadError
from engine.placement.load_plan import LoadPlan

if TYPE_CHECKING:
    from engine.backends.llama_experts import ExpertWatch
    from engine.backends.llama_threads import ThreadSearch

CHUNK_TOKENS = 512
END_TOKENS = 2
"""A prompt's last tokens, before which a state is kept: its very last one marks thinking or not and differs in
the next turn; and two, because one token alone is computed in another way than several (V4 in llama.cpp)."""
UNDIVIDED_TOKENS = 32
"""What is cheaper to read again than to read in two parts: each part costs about what a generated token does."""
CHECKPOINT_BYTES = 512 * 2**20
"""Room for states: 30 of DeepSeek-V4-Flash (17 MiB each: 128 tokens of 43 layers, and the compressors in F32),
20 of Pro (25 MiB); within a hundredth of the memory of a machine that runs either."""
OVERLAPPED_TOKENS = 8192
"""Of a prompt on a GPU, so many are read between states that are kept: keeping one waits for the GPU, which otherwise
computes a batch while llama.cpp makes the next one ready."""
KvType = Literal["f16", "f32", "q8_0"]
_KV_TYPES = {"f16": 1, "f32": 0, "q8_0": 8}  # ggml_type
_ABORTED = 2  # llama_decode's status when the abort callback said yes
_NO_ROOM = 1


class LlamaCppBackend:
    """A model and one context of llama.cpp (`base.Backend`). One thread at a time; `open` makes one."""

    def __init__(
        self,
        model: Any,
        context: Any,
        facts: ModelFacts,
        vocabulary: GgufVocabulary,
        memory: LlamaMemory,
        watch: "ExpertWatch | None" = None,
        plan: LoadPlan | None = None,
    ) -> None:
        self._plan = plan
        self._taken = taken_bytes(log.buffers, int(llama.llama_model_size(model)))
        self._overlaps = plan is not None and plan.gpu is not None and watch is None
        self._abort: Any = None
        self._watch = watch  # kept: the context holds only its callback's address
        self._model: Any = model
        self._context: Any = context
        self._facts = facts
        self._vocabulary = vocabulary
        self._memory = memory
        self._has_logits = False  # of the last token held
        self._logits_view: Logits = np.zeros(0, np.float32)
        self._logits_address = 0
        self._state_logits: Logits | None = None  # those of a state that was loaded, until something is read
        self._chunk_tokens = int(llama.llama_n_batch(context))
        self._batch = Batch(self._chunk_tokens)
        self._one = Batch(1)
        self._one.n_seq_and_logits(1)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        name: str,
        context_tokens: int,
        threads: int,
        on_progress: Callable[[float], bool],
        kv_type: KvType = "f16",
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        plan: LoadPlan | None = None,
        watch: "ExpertWatch | None" = None,
        search: "ThreadSearch | None" = None,
    ) -> "LlamaCppBackend":
        """Map the file and make a context of `context_tokens`, at most what the model was trained for.

        `plan`: how it is loaded, with a context, threads and room for states of its own; None: as llama.cpp does.
        `kv_type`: how the context is stored; with F32 flash attention is off, which is slower, and logits do
        not depend on the chunks (of two tokens and more) in which a prompt was read. `checkpoint_bytes`: room
        for states of a context that cannot be cut back; 0: none are kept. `watch`: sees the experts that are
        chosen, and is closed with the backend. `search`: finds the number of threads where the plan's is only
        expected; not with a watch, which would see what is tried.
        Raises ModelLoadError with llama.cpp's own reason, or when `on_progress` returned False.
        """
        llama.llama_backend_init()
        begin_log()
        if plan is not None:
            context_tokens, threads, kv_type = plan.context_tokens, plan.threads, plan.cache_type
            checkpoint_bytes = plan.part_bytes("states", "ram")
        from_disk = watch is not None and watch.reads_ahead
        began_s = time.monotonic()
        model = load_model(path, name, on_progress, plan, repack=not from_disk)
        try:
            return cls._with_context(
                model, path, name, context_tokens, threads, kv_type, checkpoint_bytes, plan, watch,
                None if watch is not None else search, began_s,
            )  # fmt: skip
        except BaseException:
            llama.llama_model_free(model)
            raise

    @classmethod
    def _with_context(
        cls,
        model: Any,
        path: Path,
        name: str,
        context_tokens: int,
        threads: int,
        kv_type: KvType,
        checkpoint_bytes: int,
        plan: LoadPlan | None,
        watch: "ExpertWatch | None",
        search: "ThreadSearch | None",
        began_s: float,
    ) -> "LlamaCppBackend":
        trained = int(llama.llama_model_n_ctx_train(model))
        wanted = min(context_tokens, trained) if trained > 0 else context_tokens
        used_threads = threads_to_use(threads)
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = wanted
        parameters.n_batch = parameters.n_ubatch = min(CHUNK_TOKENS, wanted)
        parameters.n_seq_max = 1
        # Only the last token's logits are ever read; the default reserves memory for a whole chunk's.
        parameters.n_outputs_max = 1
        parameters.n_threads = parameters.n_threads_batch = used_threads
        parameters.type_k = parameters.type_v = _KV_TYPES[kv_type]
        if kv_type == "f32":
            parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        # With a window-sized cache, rewinding would be accepted though the window's tokens are gone. A memory
        # that refuses it anyway would only keep, and look through, every token's row in every layer.
        uncut = architecture_of(model) in UNREWINDABLE
        parameters.swa_full = not uncut
        set_parameters(parameters, plan.context_parameters() if plan else {})
        if watch is not None:
            parameters.cb_eval = watch.callback
        context = llama.llama_init_from_model(model, parameters)
        if not context:
            raise ModelLoadError(
                f"{name} could not be loaded",
                f"no context of {wanted:,} tokens could be made ({log.reason()})",
                "set a smaller context in Settings, or close other programs to free memory",
            )
        try:
            template = llama.llama_model_chat_template(model, None)
            vocabulary = GgufVocabulary(
                model, None if template is None else template.decode("utf-8", "replace")
            )
            held = min(wanted, int(llama.llama_n_ctx(context)))
            if plan is not None and search is not None:
                plan = search.settled(context, vocabulary.size, plan, time.monotonic() - began_s)
                used_threads = plan.threads
            facts = read_facts(model, vocabulary, name, held, used_threads)
            kind = "cut" if facts.can_rewind else "checkpoints" if uncut else "neither"
            memory = LlamaMemory(context, kind, checkpoint_bytes=checkpoint_bytes)
            if kind != "neither":
                facts = with_keys(
                    facts,
                    path,
                    context,
                    parameters,
                    chunks=(END_TOKENS, UNDIVIDED_TOKENS) if memory.keeps_checkpoints else (),
                    plan=plan,
                    repacked=(plan is None or plan.copied) and not (watch is not None and watch.reads_ahead),
                    watched=watch is not None,
                    first_tokens=trained_before(model),
                )
            return cls(model, context, facts, vocabulary, memory, watch, plan)
        except BaseException:
            llama.llama_free(context)
            raise

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model."""
        return self._facts

    def tokenize(self, text: str) -> list[int]:
        """Ids of `text` as plain text; see `GgufVocabulary.encode`."""
        return self._vocabulary.encode(text)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token; empty for control and unknown tokens."""
        return self._vocabulary.token_bytes(token_id)

    def sync(
        self,
        tokens: Sequence[int],
        on_progress: Callable[[int, int, int], None],
        cancelled: Callable[[], bool],
    ) -> SyncReport:
        """Make the context hold exactly `tokens`; see `base.Backend.sync`.

        Keeps the longest common prefix that the memory can be cut back to. At least the last token is
        evaluated unless its logits are still there.
        """
        wanted = list(tokens)
        total = len(wanted)
        if not 1 <= total <= self._facts.context_tokens:
            raise ValueError(f"{total} tokens in a context of {self._facts.context_tokens}")
        if self._has_logits and wanted == self._memory.held:
            on_progress(total, total, total)
            return SyncReport(total, 0)
        reused = self._cut(min(self._memory.reach(wanted), total - 1))
        on_progress(reused, total, reused)
        start = kept = reused
        try:
            while start < total:
                if cancelled():
                    raise Cancelled
                end = self._chunk_end(start, total)
                if not self._overlaps or start == reused or end == total or start - kept >= OVERLAPPED_TOKENS:
                    self._memory.keep()
                    kept = start
                self._read(wanted[start:end], cancelled, last=end == total)
                on_progress(end, total, reused)
                start = end
        finally:
            self._end_reading()
        return SyncReport(reused, total - reused)

    def reusable(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` need not be read again; see `base.Backend.reusable`."""
        return self._memory.reach(tokens)

    def logits(self) -> Logits:
        """Logits after the last token; a view into llama.cpp's memory, valid until the next call."""
        if not self._has_logits:
            raise ValueError("the context holds no logits: sync first")
        return self._view() if self._state_logits is None else self._state_logits

    def step(self, token_id: int) -> Logits:
        """Append one token; see `base.Backend.step`."""
        one = self._one
        one.token[0] = token_id
        one.position[0] = len(self._memory.held)
        status = llama.llama_decode(self._context, one.batch)
        self._settle()
        if status != 0:
            self._clear()
            raise _decode_error(status)
        self._memory.held.append(token_id)
        self._has_logits, self._state_logits = True, None
        return self._view()

    def state_bytes(self) -> int:
        """The size of a whole state; see `base.Backend.state_bytes`."""
        return self._memory.state_bytes() if self._facts.state_key else 0

    def save(self, room: Room) -> ContextState | None:
        """See `base.Backend.save`. Marks are the kept states as they are: nothing of them is copied."""
        state = self._memory.save(room) if self._facts.state_key else None
        return replace(state, logits=self._logits_copy()) if state is not None else None

    def load(self, state: ContextState, tokens: int | None = None) -> None:
        """See `base.Backend.load`. Of a mark's state no copy is made, so what it is a view of stays in use."""
        total = len(state.tokens)
        length = total if tokens is None else tokens
        logits = state.logits if length == total else None
        self._has_logits, self._state_logits = False, None
        why: str | None
        if total > self._facts.context_tokens:
            why = f"it has {total:,} tokens and the context room for {self._facts.context_tokens:,}"
        elif logits is not None and logits.shape != (self._facts.vocabulary_size,):
            why = "its logits are those of another vocabulary"
        else:
            try:
                why = self._memory.load(state, length)
            except MemoryError:
                why = "there is not enough memory for it"
        if why is not None:
            self._clear()
            raise GenerationError(
                "What was kept of the conversation was not taken by the model",
                why,
                "continue; the conversation is read again",
            )
        self._has_logits, self._state_logits = logits is not None, logits

    @property
    def plan(self) -> LoadPlan | None:
        """By which plan it was loaded."""
        return self._plan

    @property
    def taken(self) -> TakenBytes | None:
        """What it took when it was loaded, by llama.cpp's own lines, with the experts that are held by now; states of
        the context come to it as it is used."""
        taken, held = self._taken, 0 if self._watch is None else self._watch.held_bytes
        if not held:
            return taken
        left = max(0, taken.mapped_bytes - held)
        return replace(taken, ram_bytes=taken.ram_bytes + held, mapped_bytes=left)

    @property
    def expert_counts(self) -> ExpertCounts | None:
        """What single tokens' experts cost so far; None where the system reads them, or all lies in memory."""
        return None if self._watch is None else self._watch.counts

    def relieve(self, wanted_bytes: int) -> int:
        """Experts go first, which are read again one by one; then states of the context, without which a whole
        conversation may be. The copy of the weights, if there is one, stays. See `base.Backend.relieve`."""
        given = 0 if self._watch is None else self._watch.relieve(wanted_bytes)
        return given + self._memory.checkpoints.relieve(wanted_bytes - given)

    def allow(self, more_bytes: int) -> int:
        """Room for states again, then for experts; see `base.Backend.allow`."""
        more = self._memory.checkpoints.allow(more_bytes)
        return more + (0 if self._watch is None else self._watch.allow(more_bytes - more))

    @property
    def held(self) -> Sequence[int]:
        """The tokens in the context."""
        return self._memory.held

    @contextmanager
    def fork(self) -> Generator[None]:
        """Extend the context for a while; see `base.Backend.fork`.

        What was brought back by a state may go on to sum in another order, unless it had been loaded with a state
        and nothing was read since: then nothing differs in any bit.
        """
        held, logits = list(self._memory.held), self._logits_copy()
        try:
            with self._memory.fork():
                yield
        finally:
            whole = self._memory.held == held
            self._has_logits, self._state_logits = whole and logits is not None, logits

    def close(self) -> None:
        """Free the context and the model."""
        if self._context is not None:
            self._logits_view, self._logits_address = np.zeros(0, np.float32), 0
            self._memory.forget()
            self._has_logits, self._state_logits = False, None
            llama.llama_free(self._context)
            if self._watch is not None:  # its reads write into the model's addresses
                self._watch.close()
            llama.llama_model_free(self._model)
            self._vocabulary.close()
            self._context = self._model = None

    def _read(self, chunk: list[int], cancelled: Callable[[], bool], *, last: bool) -> None:
        """Evaluate a chunk after what is held, with logits of its last token if it is the `last` chunk."""
        held, count = len(self._memory.held), len(chunk)
        batch = self._batch
        batch.token[:count] = chunk
        batch.position[:count] = np.arange(held, held + count, dtype=np.int32)
        batch.n_seq_and_logits(count, logits=last)
        failure: list[BaseException] = []

        def abort(_data: object) -> bool:
            try:
                return bool(failure) or cancelled()
            except BaseException as error:  # noqa: BLE001 - it cannot travel through C; raised again below
                failure.append(error)
                return True

        self._abort = llama.ggml_abort_callback(abort)  # kept: llama.cpp holds only its address
        llama.llama_set_abort_callback(self._context, self._abort, ctypes.c_void_p(0))
        self._has_logits, self._state_logits = False, None
        status = llama.llama_decode(self._context, batch.batch)
        if last or not self._overlaps:
            self._end_reading()
        self._settle()
        if status == 0 and not failure:
            self._memory.held += chunk
            self._has_logits = last
            return
        if status != _ABORTED and not failure:
            self._clear()
            raise _decode_error(status)
        self._memory.mend()
        if failure:
            raise failure[0]
        raise Cancelled

    def _end_reading(self) -> None:
        """Wait for a GPU, which may still be at work and ask whether to go on, and let go of the question."""
        if self._abort is not None:
            llama.llama_synchronize(self._context)
            llama.llama_set_abort_callback(self._context, llama.ggml_abort_callback(), ctypes.c_void_p(0))
            self._abort = None

    def _chunk_end(self, start: int, total: int) -> int:
        """Where the chunk that begins at `start` ends; before the last one a state can be kept."""
        end = min(start + self._chunk_tokens, total)
        if not self._memory.keeps_checkpoints or (end == total and end - start <= UNDIVIDED_TOKENS):
            return end
        return max(min(end, total - END_TOKENS), start + 1)

    def _cut(self, most: int) -> int:
        """Keep the first `most` tokens or fewer; returns how many."""
        before, left = len(self._memory.held), self._memory.cut(most)
        self._has_logits = self._has_logits and left == before
        return left

    def _settle(self) -> None:
        """Raise GenerationError where the experts of what was just computed could not be read."""
        why = None if self._watch is None else self._watch.settle()
        if why is not None:
            self._clear()
            raise GenerationError(
                "The answer stopped",
                f"the model's file could not be read from the disk ({why})",
                "look whether the disk is well and the file whole, then load the model again",
            )

    def _clear(self) -> None:
        self._memory.clear()
        self._has_logits, self._state_logits = False, None

    def _logits_copy(self) -> Logits | None:
        return self.logits().copy() if self._has_logits else None

    def _view(self) -> Logits:
        pointer: Any = llama.llama_get_logits_ith(self._context, -1)
        if not pointer:
            self._clear()
            raise _decode_error(-1)
        address = ctypes.addressof(pointer.contents)
        # The buffer rarely moves, and making a view costs more than looking.
        if address != self._logits_address:
            self._logits_view = np.ctypeslib.as_array(pointer, shape=(self._facts.vocabulary_size,))
            self._logits_address = address
        return self._logits_view


def _decode_error(status: int) -> GenerationError:
    why = {_NO_ROOM: "llama.cpp found no room in the context"}.get(status, f"llama.cpp reported {status}")
    return GenerationError("The answer stopped", why, "continue the answer, or load the model again")
