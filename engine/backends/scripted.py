"""A backend that follows a script instead of a model, for tests of everything else.

Owns: the script format below. Keeps the backend contract for real: prefixes, reuse, logits by position. It
computes nothing, so it gives thousands of tokens per second. One token is one byte of UTF-8; ids from 256 on
are the control tokens. Logits leave one token any chance, so every sampling setting yields the script. Where the
script's token is not allowed (an answer of a given form), the likeliest are those that bring what is open to an end.

A script is a JSON file named `*.script.json`:

    {
      "name": "Parrot",            optional, default: the model entry's name
      "context_tokens": 4096,      optional: what the model was "trained" for; bounds the context
      "chunk_tokens": 512,         optional: size of a prefill chunk
      "rewinds": true,             optional; false: as DeepSeek-V4's, the context can only be brought back to where a
                                   chunk ended, or to two tokens before a prompt's end
      "load_delay_s": 0.0,         optional: how long loading takes, in ten steps
      "load_error": "...",         optional: loading fails with this reason
      "chat_template": "...",      optional: a Jinja template in place of the built-in one; null: none
      "release": "preview",        optional: it is a DeepSeek-V4 of that release, with its control tokens;
                                   their literals in the replies are control tokens
      "title": "Rain",             optional: what it says when asked for a conversation's title
      "replies": [                 at least one; the first that matches is given
        {
          "match": "weather",      optional: a part of the last user message; absent: any message
          "mode": "non-think",     optional, with `release`: only when asked so; "think": only to think
          "text": "Rain.",         optional, default: filler text
          "tokens": 4000,          optional: the text is repeated and cut to this many bytes
          "delay_s": 0.0,          optional: before each token
          "prefill_delay_s": 0.0,  optional: before each prefill chunk
          "fail_after": 10,        optional: GenerationError on stepping the answer's 10th token
          "crash_after": 10        optional: the process exits with status 70 there, as in a crash
        }
      ]
    }

When no reply matches, the answer is `NO_REPLY`. A failure or crash happens only on that very token, so an
answer that is continued after it gets past it.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.backends.base import Cancelled, ContextState, Logits, Mark, ModelFacts, Room, SyncReport
from engine.contexts.kept_states import common_length
from engine.errors import GenerationError, ModelFileError, ModelLoadError

BEGIN, END, USER, ASSISTANT, SYSTEM = range(256, 261)
CONTROL_TOKENS = {
    "<|begin|>": BEGIN,
    "<|end|>": END,
    "<|user|>": USER,
    "<|assistant|>": ASSISTANT,
    "<|system|>": SYSTEM,
}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_REPLY = "The script has no reply to that."
LOREM = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt. "
CRASH_STATUS = 70
# At the highest temperature, 10, this still leaves every other token less than 1e-43 of the chosen one.
_STEP = 1000.0
# Where the script's own token is not allowed, from the likeliest on: the end, and what ends a JSON text, object or
# array, the least number, what leads to the end of a call.
_CLOSING = b'"}]0<'
_DIGEST_BYTES = 16
_LARGEST_SCRIPT_BYTES = 16 * 2**20

_Seconds = Annotated[float, Field(ge=0, le=60)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Reply(_Strict):
    """One reply of a script; see the module's text."""

    match: str | None = None
    mode: Literal["think", "non-think"] | None = None
    text: str | None = None
    tokens: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    delay_s: _Seconds = 0.0
    prefill_delay_s: _Seconds = 0.0
    fail_after: Annotated[int, Field(ge=1)] | None = None
    crash_after: Annotated[int, Field(ge=1)] | None = None

    def content(self) -> bytes:
        """The answer's bytes; a character that `tokens` would cut is left out."""
        data = (LOREM if self.text is None else self.text).encode("utf-8", "replace")
        if self.tokens is None or not data:
            return data
        cut = bytes(islice(cycle(data), self.tokens))
        return cut.decode("utf-8", "ignore").encode()


class Script(_Strict):
    """A whole script; see the module's text."""

    name: str | None = None
    context_tokens: Annotated[int, Field(ge=16, le=2**24)] = 65_536
    chunk_tokens: Annotated[int, Field(ge=1, le=65_536)] = 512
    rewinds: bool = True
    load_delay_s: _Seconds = 0.0
    load_error: str | None = None
    chat_template: str | None = CHAT_TEMPLATE
    release: str | None = None
    title: str | None = None
    replies: Annotated[tuple[Reply, ...], Field(min_length=1, strict=False)]

    def replies_told(self) -> list[object]:
        """What is said to whom; not how fast, and not where it fails."""
        return [[each.match, each.mode, each.text, each.tokens] for each in self.replies]


def read_script(path: Path) -> Script:
    """Read and check a script. Raises ModelFileError that names the first thing wrong."""
    what, remedy = f"The script {path.name} could not be used", "correct the file and load it again"
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_SCRIPT_BYTES + 1)
    except OSError as error:
        raise ModelFileError(what, f"it cannot be read ({error.strerror})", remedy) from error
    if len(data) > _LARGEST_SCRIPT_BYTES:
        raise ModelFileError(what, f"it is larger than {_LARGEST_SCRIPT_BYTES:,} bytes", remedy)
    try:
        return Script.model_validate(json.loads(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ModelFileError(what, f"{place}: {first['msg']}", remedy) from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(what, f"it is not JSON ({error})", remedy) from error


class ScriptedBackend:
    """Follows a script (`base.Backend`)."""

    def __init__(self, script: Script, *, name: str, context_tokens: int) -> None:
        self._script = script
        control, marks = _control(script)
        self._control = control
        self._literals = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))))
        self._begin, self._end, self._user, self._assistant = (control[mark] for mark in marks)
        self._think = control.get("<think>")
        self._title = control.get("<｜title｜>")
        size = BEGIN + len(control)
        self._facts = ModelFacts(
            name=script.name or name,
            architecture="script" if script.release is None else "deepseek4",
            backend="scripted",
            context_tokens=min(context_tokens, script.context_tokens),
            context_train_tokens=script.context_tokens,
            vocabulary_size=size,
            threads=1,
            end_token_ids=frozenset({self._end}),
            begin_token_id=self._begin,
            begin_token_text=marks[0],
            end_token_text=marks[1],
            chat_template=script.chat_template if script.release is None else None,
            control_tokens=control,
            release_names=() if script.release is None else (script.release,),
            can_rewind=script.rewinds,
            states_rewind=script.rewinds,
            state_key=_digest("state", [script.release, sorted(control.items()), script.rewinds]),
            exact_key=_digest("exact", [script.release, script.title, script.replies_told()]),
        )
        self._held: list[int] = []
        self._marks: list[int] = []
        """Lengths that it can be brought back to where it cannot be cut to any."""
        self._has_logits = False
        self._reply = Reply(text="")
        self._answer: list[int] = []
        self._answer_start = 0
        self._mark = control.get("｜DSML｜")
        self._marked = 0  # where the text after the last such token begins, 0: there was none in this answer
        self._usual: Logits = np.zeros(size, np.float32)
        for rank, closing in enumerate((self._end, *_CLOSING)):
            self._usual[closing] = _STEP * (1 + len(_CLOSING) - rank)
        self._logits: Logits = self._usual.copy()
        self._raised: list[int] = []

    @classmethod
    def open(
        cls, path: Path, *, name: str, context_tokens: int, on_progress: Callable[[float], bool]
    ) -> "ScriptedBackend":
        """Read the script and "load" it. Raises ModelFileError or ModelLoadError."""
        script = read_script(path)
        for step in range(11):
            if not on_progress(step / 10):
                raise ModelLoadError(f"{name} was not loaded", "loading was stopped", "choose it again")
            if step < 10 and script.load_delay_s:
                time.sleep(script.load_delay_s / 10)
        if script.load_error is not None:
            raise ModelLoadError(f"{name} could not be loaded", script.load_error, "choose another model")
        return cls(script, name=name, context_tokens=context_tokens)

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model."""
        return self._facts

    def tokenize(self, text: str) -> list[int]:
        """One id per byte of UTF-8; a lone surrogate becomes "?"."""
        return list(text.encode("utf-8", "replace"))

    def token_bytes(self, token_id: int) -> bytes:
        """The byte itself; empty for control tokens."""
        return bytes((token_id,)) if token_id < BEGIN else b""

    def sync(
        self,
        tokens: Sequence[int],
        on_progress: Callable[[int, int, int], None],
        cancelled: Callable[[], bool],
    ) -> SyncReport:
        """Make the context hold exactly `tokens`; see `base.Backend.sync`."""
        wanted = list(tokens)
        total = len(wanted)
        if not 1 <= total <= self._facts.context_tokens:
            raise ValueError(f"{total} tokens in a context of {self._facts.context_tokens}")
        if self._has_logits and wanted == self._held:
            on_progress(total, total, total)
            return SyncReport(total, 0)
        reused = self._reach(wanted, total - 1)
        del self._held[reused:]
        self._marks = [mark for mark in self._marks if mark <= reused]
        self._has_logits = False
        self._choose(wanted)
        on_progress(reused, total, reused)
        for start in range(reused, total, self._script.chunk_tokens):
            if cancelled():
                raise Cancelled
            if self._reply.prefill_delay_s:
                time.sleep(self._reply.prefill_delay_s)
            self._held += wanted[start : start + self._script.chunk_tokens]
            if not self._script.rewinds:
                # The end of a prompt is where another answer to it begins.
                self._marks.append(len(self._held) if len(self._held) < total else max(start, total - 2))
            on_progress(len(self._held), total, reused)
        self._point()
        return SyncReport(reused, total - reused)

    def reusable(self, tokens: Sequence[int]) -> int:
        """The longest common prefix it can be cut back to; see `base.Backend.reusable`."""
        return self._reach(tokens, len(tokens))

    def _reach(self, tokens: Sequence[int], most: int) -> int:
        """The same, at most `most`."""
        common = min(common_length(self._held, tokens), most)
        if self._script.rewinds or common == len(self._held):
            return common
        return max((mark for mark in self._marks if mark <= common), default=0)

    def logits(self) -> Logits:
        """Logits after the last token of the context."""
        if not self._has_logits:
            raise ValueError("the context holds no logits: sync first")
        return self._logits

    @property
    def plan(self) -> None:
        """None: it lies nowhere."""
        return None

    @property
    def taken(self) -> None:
        """None."""
        return None

    @property
    def expert_counts(self) -> None:
        """None: it has no experts."""
        return None

    def relieve(self, wanted_bytes: int) -> int:
        """Nothing."""
        del wanted_bytes
        return 0

    def allow(self, more_bytes: int) -> int:
        """Nothing."""
        del more_bytes
        return 0

    @property
    def held(self) -> Sequence[int]:
        """The tokens in the context."""
        return self._held

    def state_bytes(self) -> int:
        """Four bytes for each token, and a digest."""
        return _DIGEST_BYTES + 4 * len(self._held) if self._held else 0

    def save(self, room: Room) -> ContextState | None:
        """The ids and their digest: what a model remembers is here the tokens alone. See `base.Backend.save`."""
        size = self.state_bytes()
        if not size:
            return None
        whole = room(size)[:size]
        whole[:] = np.frombuffer(_state_of(self._held), np.uint8)
        marks = [
            Mark(mark, np.frombuffer(_state_of(self._held[max(0, mark - 128) : mark]), np.uint8))
            for mark in sorted(set(self._marks))
            if 0 < mark < len(self._held)
        ]
        logits = self._logits.copy() if self._has_logits else None
        return ContextState(tuple(self._held), whole, tuple(marks), logits)

    def load(self, state: ContextState, tokens: int | None = None) -> None:
        """See `base.Backend.load`. Any byte of the state that is not as it was written is noticed."""
        total = len(state.tokens)
        length = total if tokens is None else tokens
        self._held, self._marks, self._has_logits = [], [], False
        why = None
        if not total:
            return
        if not 1 <= length <= total <= self._facts.context_tokens:
            why = f"{length:,} of its {total:,} tokens are wanted for {self._facts.context_tokens:,}"
        elif state.whole.tobytes() != _state_of(state.tokens):
            why = "it is damaged"
        elif not self._script.rewinds and length < total and length not in {m.tokens for m in state.marks}:
            why = f"it cannot be brought back to {length:,} tokens"
        if why is not None:
            raise GenerationError(
                "What was kept of the conversation was not taken by the script",
                why,
                "continue; the conversation is read again",
            )
        self._held = list(state.tokens[:length])
        self._marks = [mark.tokens for mark in state.marks if mark.tokens <= length]
        self._choose(self._held)
        if length == total and state.logits is not None:
            self._point()

    @contextmanager
    def fork(self) -> Generator[None]:
        """Extend the context for a while; see `base.Backend.fork`."""
        held, marks = list(self._held), list(self._marks)
        try:
            yield
        finally:
            self._held, self._marks = held, marks
            self._has_logits = False
            if held:
                self._choose(held)
                self._point()

    def step(self, token_id: int) -> Logits:
        """Append one token; fails or crashes where the script says so."""
        reply = self._reply
        if reply.delay_s:
            time.sleep(reply.delay_s)
        count = len(self._held) + 1 - self._answer_start
        if count == reply.crash_after:
            os._exit(CRASH_STATUS)
        if count == reply.fail_after or len(self._held) >= self._facts.context_tokens:
            self.close()
            raise GenerationError(
                "The answer stopped", f"the script fails after {count} tokens", "continue the answer"
            )
        self._held.append(token_id)
        if token_id == self._mark:
            self._marked = len(self._held)
        if token_id in (self._assistant, self._title):
            self._choose(self._held)
        self._point()
        return self._logits

    def close(self) -> None:
        """Forget the context."""
        self._held.clear()
        self._marks.clear()
        self._has_logits = False

    def _choose(self, tokens: list[int]) -> None:
        """Find the reply to the last user message in `tokens`, and where the answer begins."""
        self._marked = 0
        if tokens and tokens[-1] == self._title:
            self._reply = Reply(text=self._script.title or "")
            self._answer_start = len(tokens)
            self._answer = self._ids(self._reply.content())
            return
        start = _last(tokens, self._assistant, len(tokens)) + 1 or len(tokens)
        # V4's mark for thinking or not stands between the assistant's token and the answer.
        marked = self._think is not None and start < len(tokens)
        thinks = marked and tokens[start] == self._think
        self._answer_start = start + marked
        question = ""
        user = _last(tokens, self._user, start)
        if user >= 0:
            end = next((i for i in range(user + 1, len(tokens)) if tokens[i] >= BEGIN), len(tokens))
            question = bytes(tokens[user + 1 : end]).decode("utf-8", "replace")
        mode = "think" if thinks else "non-think"
        for reply in self._script.replies:
            if reply.mode in (None, mode) and (reply.match is None or reply.match in question):
                self._reply = reply
                break
        else:
            self._reply = Reply(text=NO_REPLY)
        self._answer = self._ids(self._reply.content())

    def _ids(self, content: bytes) -> list[int]:
        """A reply's tokens: a byte each, and with a release its literals as control tokens."""
        if self._script.release is None:
            return list(content)
        ids: list[int] = []
        text, at = content.decode(), 0
        for literal in self._literals.finditer(text):
            ids += [*text[at : literal.start()].encode(), self._control[literal.group()]]
            at = literal.end()
        return [*ids, *text[at:].encode()]

    def _point(self) -> None:
        """Set the logits to the next token of the answer, by position; the end token when it is over.

        After a `</think>` that was forced, the answer goes on behind its own.
        """
        place = len(self._held) - self._answer_start
        following = self._answer[place] if 0 <= place < len(self._answer) else self._end
        end_id = self._control.get("</think>")
        if end_id is not None and place > 0 and end_id in self._held[self._answer_start :]:
            after = len(self._held) - self._answer_start - self._held[self._answer_start :].index(end_id)
            mine = self._answer.index(end_id) + after if end_id in self._answer else len(self._answer)
            following = self._answer[mine] if mine < len(self._answer) else self._end
        self._logits[self._raised] = self._usual[self._raised]
        self._raised = [*self._leading_out(), following]
        self._logits[self._raised] = [_STEP * (9 + rank) for rank in range(len(self._raised))]
        self._has_logits = True

    def _leading_out(self) -> list[int]:
        """The token, if there is one, that leads out of a value that a call holds."""
        last = self._held[-2:]
        if last[-1] == ord("<"):
            return [ord("/")]
        if self._mark is not None and last == [*b"</"]:
            return [self._mark]
        after = self._held[self._marked : self._marked + 200] if self._marked else []
        return [ord("<")] if b'string="true">' in bytes(id_ for id_ in after if id_ < BEGIN) else []


def _state_of(tokens: Sequence[int]) -> bytes:
    ids = np.asarray(tokens, "<u4").tobytes()
    return ids + hashlib.blake2b(ids, digest_size=_DIGEST_BYTES).digest()


def _digest(kind: str, value: object) -> str:
    return hashlib.blake2b(f"{kind} {value!r}".encode(), digest_size=16).hexdigest()


def _control(script: Script) -> tuple[dict[str, int], tuple[str, str, str, str]]:
    """(id of each control literal, those of begin, end, user and assistant). Raises ModelFileError."""
    if script.release is None:
        return dict(CONTROL_TOKENS), ("<|begin|>", "<|end|>", "<|user|>", "<|assistant|>")
    from engine.encoding.release import release
    from engine.errors import UnknownRelease

    try:
        tokens = release(script.release).tokens
    except UnknownRelease as error:
        raise ModelFileError("The script could not be used", error.why, error.remedy) from error
    literals = dict.fromkeys(tokens.literals())
    control = {literal: BEGIN + place for place, literal in enumerate(literals)}
    return control, (tokens.begin, tokens.end, tokens.user, tokens.assistant)


def _last(tokens: list[int], wanted: int, before: int) -> int:
    """Index of the last `wanted` in tokens[:before], or -1."""
    return next((i for i in range(before - 1, -1, -1) if tokens[i] == wanted), -1)
