"""The native engine as a backend: DeepSeek-V4 by the network in `engine.model`.

Owns: one model, one context, and the contract of `base` over both. Importing this module loads torch. Does not know the
network's arithmetic (`engine.model`, `kernels`), what is kept of a context (`native_memory`), or sampling.

A pass over a chunk of a prompt, or over one token, is staged: until it is committed nothing that was read before has
changed. So a pass that is cancelled, between two layers, or that fails leaves the context as it was before it.

Marks are kept where reading pauses anyway: before each chunk, and before the last token of a prompt, which tells
whether the model is to think and is another one in the next turn.
"""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

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
from engine.backends.native_devices import Computing, computing, forget, without_room
from engine.backends.native_drafts import DraftTrial
from engine.backends.native_keys import with_keys
from engine.backends.native_memory import NativeMemory
from engine.backends.native_vocabulary import Vocabulary, vocabulary_of
from engine.errors import GenerationError, ModelFileError, ModelLoadError
from engine.model.checkpoint_weights import open_checkpoint
from engine.model.devices import exhausted
from engine.model.gguf_weights import open_gguf
from engine.model.model_error import ModelError
from engine.model.network import PassCancelled
from engine.model.read_ahead import DraftCounts, ReadAhead
from engine.model.row_formats import CacheFormat
from engine.model.tensor_source import OpenModel
from engine.model.tiered_experts import TieredExperts
from engine.placement.context_sizes import CacheType
from engine.placement.load_plan import LoadPlan
from engine.placement.native_plan import CHUNK_TOKENS
from engine.placement.planner import STATES_BYTES
from kernels.dispatch import fast_paths_are_wanted

_logger = logging.getLogger(__name__)
NAME = "native"
ARCHITECTURE = "deepseek4"
END_TOKENS = 1
"""Before so many last tokens of a prompt a mark is kept."""
UNDIVIDED_TOKENS = 32
"""What is cheaper to read again than to read in two parts."""
FORMATS: dict[CacheType, CacheFormat] = {"f32": "f32", "f16": "bf16", "q8_0": "mixed"}
"""What a context is kept in for each kind that can be chosen."""


class NativeBackend:
    """A model and one context of the native engine (`base.Backend`). One thread at a time; `open` makes one."""

    def __init__(
        self,
        model: OpenModel,
        placed: Computing,
        vocabulary: Vocabulary,
        facts: ModelFacts,
        *,
        checkpoint_bytes: int,
        plan: LoadPlan | None,
    ) -> None:
        self._model, self._vocabulary = model, vocabulary
        self._placed: Computing | None = placed
        self._network = network = placed.network
        self._facts, self._plan = facts, plan
        self._chunk_tokens = chunk_tokens_of(plan)
        self._memory = NativeMemory(
            network.new_cache, context_tokens=facts.context_tokens, checkpoint_bytes=checkpoint_bytes
        )
        self._logits: Logits | None = None  # after the last token held
        self._closed = False
        self._counts = ExpertCounts()
        self._trial = DraftTrial() if network.draft is not None else None
        self._reader: ReadAhead | None = None  # of the cache that the memory has now
        self._is_ahead = False  # a pass with a guessed token is open
        self._drafts = DraftCounts()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        name: str,
        context_tokens: int,
        threads: int = 0,
        cache_type: CacheType = "f16",
        on_progress: Callable[[float], bool] = lambda _fraction: True,
        checkpoint_bytes: int = STATES_BYTES,
        plan: LoadPlan | None = None,
    ) -> "NativeBackend":
        """Map a GGUF, or the shards of a checkpoint's folder, and make a context of `context_tokens`, at most what the
        model was made for.

        `plan`: with a context, threads, a form of the context and room for marks of its own. `checkpoint_bytes`: room
        for marks; 0: none are kept. A drafter is taken from the file, or from `NAME-draft.gguf` beside it. Raises
        ModelFileError for files that cannot be used, ModelLoadError when `on_progress` returned False.
        """
        if plan is not None:
            context_tokens, threads, cache_type = plan.context_tokens, plan.threads, plan.cache_type
            checkpoint_bytes = plan.part_bytes("states", "ram")
        _go_on(name, on_progress, 0.0)
        try:
            fast_paths_are_wanted()
        except ValueError as error:
            raise ModelLoadError(f"{name} was not loaded", str(error), "set it so, or not at all") from error
        used_threads = threads_to_use(threads)
        torch.set_num_threads(used_threads)
        model, draft = _opened(path)
        try:
            _go_on(name, on_progress, 0.5)
            vocabulary = vocabulary_of(path, model.config.vocab_size)
            placed = computing(model, plan, FORMATS[cache_type], name=name)
            _go_on(name, on_progress, 1.0)
        except BaseException:
            model.close()
            raise
        trained = model.config.max_position_embeddings
        facts = ModelFacts(
            name=name,
            architecture=ARCHITECTURE,
            backend=NAME,
            context_tokens=min(context_tokens, trained),
            context_train_tokens=trained,
            vocabulary_size=model.config.vocab_size,
            threads=used_threads,
            end_token_ids=vocabulary.end_ids,
            begin_token_id=vocabulary.begin_id,
            begin_token_text=vocabulary.begin_text,
            end_token_text=vocabulary.end_text,
            chat_template=vocabulary.template,
            control_tokens=dict(vocabulary.tokenizer.control),
            release_names=vocabulary.release_names,
            can_rewind=False,
            states_rewind=False,
        )
        facts = with_keys(
            facts,
            (path,) if draft is None else (path, draft),
            cache_format=FORMATS[cache_type],
            drafts=placed.network.draft is not None,
            activations=str(placed.network.activations).removeprefix("torch."),
            device=placed.device,
            experts_on=placed.experts_on,
            chunks=(chunk_tokens_of(plan), END_TOKENS, UNDIVIDED_TOKENS),
        )
        try:
            return cls(model, placed, vocabulary, facts, checkpoint_bytes=checkpoint_bytes, plan=plan)
        except torch.OutOfMemoryError:
            pass
        # Said only here: while the error is at hand, what was taken is not free.
        vocabulary.close()
        model.close()
        del placed
        raise without_room(name, facts.context_tokens)

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model."""
        return self._facts

    @property
    def plan(self) -> LoadPlan | None:
        """By which plan it was loaded."""
        return self._plan

    @property
    def taken(self) -> TakenBytes | None:
        """The context as far as it is used, marks, copies of experts, and the mapped file; on a GPU its weights and
        slots."""
        memory, placed = self._memory, self._placed
        if placed is None:
            return None
        marks, mapped = memory.checkpoints.size_bytes, self._model.size_bytes
        context = memory.size_bytes - marks
        if not placed.gpu_weights_bytes:
            return TakenBytes(ram_bytes=context + marks, mapped_bytes=mapped)
        copies = 0 if placed.tiers is None else placed.tiers.ram_bytes
        return TakenBytes(placed.gpu_weights_bytes + context, marks + copies, mapped)

    @property
    def expert_counts(self) -> ExpertCounts | None:
        """What single tokens' experts cost so far: where the mapped file's pages were when they were wanted."""
        return self._counts

    @property
    def drafts(self) -> DraftCounts:
        """Tokens that were read ahead of being asked for, and how many of them came to be asked for."""
        now = DraftCounts() if self._reader is None else self._reader.counts
        return DraftCounts(self._drafts.guessed + now.guessed, self._drafts.accepted + now.accepted)

    def relieve(self, wanted_bytes: int) -> int:
        """Copies of experts go, which lie in the file too, then marks; see `base.Backend.relieve`. Other weights are
        pages of a file, which the system takes by itself, or lie on the GPU."""
        tiers = self._tiers
        given = tiers.relieve(wanted_bytes) if tiers is not None and wanted_bytes > 0 else 0
        return given + self._memory.checkpoints.relieve(wanted_bytes - given)

    @property
    def _tiers(self) -> TieredExperts | None:
        placed = self._placed
        return None if placed is None else placed.tiers

    def allow(self, more_bytes: int) -> int:
        """Room for marks again, then for copies of experts; see `base.Backend.allow`."""
        used, tiers = self._memory.checkpoints.allow(more_bytes), self._tiers
        return used + (0 if tiers is None else tiers.allow(more_bytes - used))

    @property
    def held(self) -> Sequence[int]:
        """The tokens in the context."""
        return self._memory.held

    def tokenize(self, text: str) -> list[int]:
        """Ids of `text` as plain text."""
        return self._vocabulary.tokenizer.encode(text)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token; empty for control tokens."""
        return self._vocabulary.token_bytes(token_id)

    def sync(
        self,
        tokens: Sequence[int],
        on_progress: Callable[[int, int, int], None],
        cancelled: Callable[[], bool],
    ) -> SyncReport:
        """Make the context hold exactly `tokens`; see `base.Backend.sync`. At least the last token is read unless its
        logits are still there."""
        wanted = list(tokens)
        total = len(wanted)
        if not 1 <= total <= self._facts.context_tokens:
            raise ValueError(f"{total} tokens in a context of {self._facts.context_tokens}")
        self._settle()
        memory = self._memory
        if self._logits is not None and wanted == memory.held:
            on_progress(total, total, total)
            return SyncReport(total, 0)
        self._logits = None
        with self._computing(0):
            reused = start = memory.cut(min(memory.reach(wanted), total - 1))
        on_progress(reused, total, reused)
        while start < total:
            if cancelled():
                raise Cancelled
            end = self._chunk_end(start, total)
            with self._computing(end - start):
                memory.keep()
            self._read(wanted[start:end], cancelled, last=end == total)
            on_progress(end, total, reused)
            start = end
        return SyncReport(reused, total - reused)

    def reusable(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` need not be read again; see `base.Backend.reusable`."""
        self._settle()
        return self._memory.reach(tokens)

    def logits(self) -> Logits:
        """Logits after the last token."""
        if self._logits is None:
            raise ValueError("the context holds no logits: sync first")
        return self._logits

    def step(self, token_id: int) -> Logits:
        """Append one token; see `base.Backend.step`."""
        if len(self._memory.held) >= self._facts.context_tokens:
            raise GenerationError(
                "The answer stopped",
                f"the context of {self._facts.context_tokens:,} tokens is full",
                "begin another conversation, or load the model with a larger context",
            )
        before = self._network.experts.counts
        self._logits = None
        with self._computing(1):
            logits = self._step(token_id)
        self._memory.held.append(token_id)
        found = self._network.experts.counts - before
        self._counts = ExpertCounts(
            self._counts.wanted + found.gpu + found.ram + found.disk,
            self._counts.in_memory + found.gpu + found.ram,
            self._counts.read_bytes + found.read_bytes,
            self._counts.on_gpu + found.gpu,
        )
        return self._take(logits)

    def state_bytes(self) -> int:
        """The size of a whole state; see `base.Backend.state_bytes`."""
        self._settle()
        return self._memory.state_bytes() if self._facts.state_key else 0

    def save(self, room: Room) -> ContextState | None:
        """See `base.Backend.save`. What follows is the same as after loading it, to the bit."""
        self._settle()
        try:
            state = self._memory.save(room) if self._facts.state_key else None
        except torch.OutOfMemoryError:  # the GPU has no room for what is on its way: then it is read again
            return None
        logits = self._logits
        return replace(state, logits=None if logits is None else logits.copy()) if state else None

    def load(self, state: ContextState, tokens: int | None = None) -> None:
        """See `base.Backend.load`."""
        total = len(state.tokens)
        length = total if tokens is None else tokens
        logits = state.logits if length == total else None
        self._settle()
        self._logits = None
        why: str | None
        if total > self._facts.context_tokens:
            why = f"it has {total:,} tokens and the context room for {self._facts.context_tokens:,}"
        elif logits is not None and logits.shape != (self._facts.vocabulary_size,):
            why = "its logits are those of another vocabulary"
        else:
            try:
                why = self._memory.load(state, length)
            except (MemoryError, torch.OutOfMemoryError):
                why = "there is not enough memory for it"
        if why is not None:
            self._memory.clear()
            raise GenerationError(
                "What was kept of the conversation was not taken by the model",
                why,
                "continue; the conversation is read again",
            )
        self._logits = logits

    @contextmanager
    def fork(self) -> Generator[None]:
        """Extend the context for a while; see `base.Backend.fork`. Afterwards nothing differs in any bit."""
        self._settle()
        logits = self._logits
        try:
            with self._memory.fork():
                yield
        finally:
            self._forget_reader()
            self._logits = logits

    def close(self) -> None:
        """Let go of the context, the vocabulary and the mapped file."""
        if not self._closed:
            self._closed = True
            self._forget_reader()
            self._memory.close()
            self._logits = self._placed = None
            device = self._network.device
            del self._network  # with it what lies on a GPU
            forget(device)
            self._vocabulary.close()
            self._model.close()

    def _read(self, chunk: list[int], cancelled: Callable[[], bool], *, last: bool) -> None:
        """Read a chunk behind what is held, with logits of its last token if it is the `last` one.

        Raises Cancelled and GenerationError; the context is then what it was.
        """
        with self._computing(len(chunk)):
            found = self._network.forward(
                [(self._memory.cache, torch.tensor(chunk, dtype=torch.int64))],
                logits="last" if last else "none",
                cancelled=cancelled,
            )
        self._memory.held += chunk
        if last:
            self._take(found[0])

    def _step(self, token: int) -> torch.Tensor:
        """Logits after one token more, with a guess read ahead where that has been found to pay."""
        cache, trial = self._memory.cache, self._trial
        began_s = time.perf_counter()
        fits = cache.position + 3 <= self._facts.context_tokens  # it may be one token behind what is held
        if trial is None or not (self._is_ahead or (trial.wanted and fits)):
            self._settle()
            found = self._network.forward([(cache, torch.tensor([token]))])[0]
            if trial is not None:
                trial.plain(time.perf_counter() - began_s)
            return found
        if self._reader is None:
            self._reader = ReadAhead(self._network, cache)
        reader, before, was_ahead = self._reader, self._reader.counts, self._is_ahead
        self._is_ahead = False
        found = reader.step(token)
        if was_ahead:
            trial.guessed(right=reader.counts.accepted > before.accepted)
        self._is_ahead = reader.counts.guessed > before.guessed
        if self._is_ahead:
            trial.ahead(time.perf_counter() - began_s)
        return found

    def _take(self, found: torch.Tensor) -> Logits:
        """Logits as they are handed out. Raises GenerationError for such as are no numbers."""
        logits: Logits = found.cpu().numpy()
        if not np.isfinite(logits).all():
            raise GenerationError(
                "The answer stopped",
                "the model computed something that is no number, so its weights are not in order",
                "check the file with `seamount verify`, or get it again",
            )
        self._logits = logits
        return logits

    @contextmanager
    def _computing(self, tokens: int) -> Generator[None]:
        """A pass over so many tokens; what goes wrong in it is told. The context is then what it was before."""
        self._logits = None
        if torch.get_num_threads() != self._facts.threads:  # each thread of this process has its own number
            torch.set_num_threads(self._facts.threads)
        try:
            yield
        except PassCancelled:
            raise Cancelled from None
        except ModelError as error:
            raise GenerationError(error.what, error.why, error.hint) from error
        except (MemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            on_gpu = isinstance(error, torch.OutOfMemoryError) and tokens > 0
        else:
            return
        held, network = len(self._memory.held), self._network
        if on_gpu:  # before or behind the pass; within it the network says so
            full = exhausted(network.config, network.device, tokens, held, network.activations)
            raise GenerationError(full.what, full.why, full.hint)
        raise GenerationError(
            "The answer stopped",
            f"there was not enough memory to read {tokens:,} tokens behind {held:,}",
            "close other programs, or load the model with a smaller context; what was read is still there",
        )

    def _settle(self) -> None:
        """The cache holds what is held, and no guess is open."""
        if self._reader is not None:  # it may have a guess open that could not be closed before
            self._reader.settle()
        self._is_ahead = False
        self._forget_reader()

    def _forget_reader(self) -> None:
        """The cache that it reads into may become another one."""
        self._drafts, self._reader, self._is_ahead = self.drafts, None, False

    def _chunk_end(self, start: int, total: int) -> int:
        """Where the chunk that begins at `start` ends; before the last one a mark can be kept."""
        end = min(start + self._chunk_tokens, total)
        if end == total and end - start <= UNDIVIDED_TOKENS:
            return end
        return max(min(end, total - END_TOKENS), start + 1)


def chunk_tokens_of(plan: LoadPlan | None) -> int:
    """How many tokens of a prompt are read in one pass."""
    return CHUNK_TOKENS if plan is None or plan.gpu is None else plan.micro_batch_tokens


def _opened(path: Path) -> tuple[OpenModel, Path | None]:
    """The model, with the drafter in a file beside it if there is one that can be used: that file. Raises
    ModelFileError."""
    draft = path.with_name(f"{path.name.removesuffix('.gguf')}-draft.gguf")
    try:
        if path.is_dir():
            return open_checkpoint(path), None
        if draft.is_file():
            try:
                return open_gguf(path, draft), draft
            except ModelError as error:
                _logger.warning("answers are written without the drafter in %s: %s", draft.name, error)
        return open_gguf(path), None
    except ModelError as error:
        raise ModelFileError(error.what, error.why, error.hint) from error


def _go_on(name: str, on_progress: Callable[[float], bool], fraction: float) -> None:
    """Raises ModelLoadError when the load is to be given up."""
    if not on_progress(fraction):
        raise ModelLoadError(f"{name} was not loaded", "loading was stopped", "choose it again to load it")


def _is_memory(error: BaseException) -> bool:
    """Whether torch failed for want of memory: on the processor it tells that by a RuntimeError's text alone."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
