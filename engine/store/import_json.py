"""A conversation from a file that anybody may have written, checked and put into the store.

Owns: the checks before anything is written, which ids are new ones, and the rows. The tree's rules are `tree_rules`,
the file's shape is `protocol_storage.SessionDocument`. All of a file is taken in, or, after any error, none of it.
"""

import errno
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from engine.conversation import clean_text
from engine.errors import BadRequest, DataFolderError
from engine.protocol import Tool, ToolCall
from engine.protocol_storage import DOCUMENT_FORMAT, DOCUMENT_VERSION, KeptMessage, SessionDocument
from engine.store.database import Database
from engine.store.export_json import MOST_DOCUMENT_BYTES
from engine.store.rows import listed, packed
from engine.store.titles import tidy_title
from engine.store.tree import make_findable, new_id
from engine.store.tree_rules import LATEST_S, TreeRules, is_id

_OWN_ID = re.compile(r"[0-9a-f]{28}", re.ASCII)
MOST_MESSAGES = 200_000
_WHAT = "The conversation was not imported"
_REMEDY = "export it again with `seamount sessions export --format json`"


def read_document_file(path: Path) -> bytes:
    """The bytes of the file at `path`. Raises DataFolderError, BadRequest for one that is too large."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            # Opening a pipe would wait for whoever writes into it.
            raise OSError(errno.EINVAL, "it is no ordinary file")
        with path.open("rb") as file:
            content = file.read(MOST_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise DataFolderError(
            _WHAT, f"{path} cannot be read ({error.strerror or error})", "check its name and your permission"
        ) from error
    return content


def parsed(content: bytes) -> SessionDocument:
    """What the file's bytes say, held against every rule. Raises BadRequest with one sentence."""
    if len(content) > MOST_DOCUMENT_BYTES:
        raise BadRequest(_WHAT, f"the file has more than {MOST_DOCUMENT_BYTES:,} bytes", _REMEDY)
    try:
        document = SessionDocument.model_validate_json(content)
    except ValidationError as error:
        raise _misshapen(error) from error
    if len(document.messages) > MOST_MESSAGES:
        raise BadRequest(_WHAT, f"it has more than {MOST_MESSAGES:,} messages", _REMEDY)
    session = document.session
    if not is_id(session.id):
        raise BadRequest(
            _WHAT, "the session's id is not made of letters, digits, - and _, at most 128", _REMEDY
        )
    if not (0 <= session.created_at <= LATEST_S and 0 <= session.updated_at <= LATEST_S):
        raise BadRequest(_WHAT, "the session's time is none that could be", _REMEDY)
    rules = TreeRules()
    for number, message in enumerate(document.messages, 1):
        problem = rules.add(message) or _kept_problem(message)
        if problem is not None:
            raise BadRequest(_WHAT, f"message {number} cannot be: {problem}", _REMEDY)
    if session.leaf_id is not None and session.leaf_id not in rules:
        raise BadRequest(_WHAT, "the message that its shown branch ends in is not there", _REMEDY)
    return document


def add_document(database: Database, document: SessionDocument) -> str:
    """Store a document that `parsed` gave; the id of the session. What clashes with an id here gets a new one.

    Raises BadRequest for what cannot be stored as it is, DiskFull, DataFolderError.
    """
    with database.transaction() as connection:
        return _Import(connection, document).run()


class _Import:
    """One document inside one transaction."""

    def __init__(self, connection: sqlite3.Connection, document: SessionDocument) -> None:
        self._connection = connection
        self._document = document
        self._ids: dict[str, str] = {}
        self._call_ids: dict[str, str] = {}
        self._rows: dict[str, int] = {}

    def run(self) -> str:
        """The id of the session."""
        session = self._document.session
        # It becomes a folder's name: another form than ours could mean something to some file system.
        session_id = self._free(session.id, "session") if _OWN_ID.fullmatch(session.id) else new_id()
        for message in self._document.messages:
            self._ids[message.id] = self._free(message.id, "message")
            for call in message.tool_calls:
                if call.id not in self._call_ids:
                    self._call_ids[call.id] = self._free(call.id, "written_call")
        leaf_id = None if session.leaf_id is None else self._ids[session.leaf_id]
        title = tidy_title(session.title)
        number = self._connection.execute(
            "INSERT INTO session (id, title, title_by, created_at, updated_at, leaf_id, tools)"
            " SELECT ?1, seal(?2, 'session.title', ?1), ?3, ?4, ?5, ?6, seal(?7, 'session.tools', ?1)",
            (
                session_id,
                title,
                session.title_by,
                session.created_at,
                session.updated_at,
                leaf_id,
                _stored_list(session.tools),
            ),
        ).lastrowid
        assert number is not None, "an INSERT always has a row"  # noqa: S101
        for message in self._document.messages:
            self._add(number, message)
        return session_id

    def _free(self, wanted: str, table: str) -> str:
        """`wanted`, or a new id where the table has it already."""
        query = f"SELECT 1 FROM {table} WHERE id = ?"  # noqa: S608 - one of the three names above
        if self._connection.execute(query, (wanted,)).fetchone() is None:
            return wanted
        return f"call_{new_id()}" if table == "written_call" else new_id()

    def _add(self, session: int, message: KeptMessage) -> None:
        text = clean_text(message.text)[0]
        error, thought, usage, sampling = message.error, message.thought, message.usage, message.sampling
        calls = [call.model_copy(update={"id": self._call_ids[call.id]}) for call in message.tool_calls]
        call_id = message.tool_call_id
        number = self._connection.execute(
            "INSERT INTO message (id, session, parent, role, status, created_at, model_id, finish_reason,"
            " error_code, error_text, usage, sampling, text, token_ids, mode, reasoning, thinking_tokens,"
            " thinking_s, tool_calls, call_text, tool_call_id, notices, continued)"
            " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, seal(?10, 'message.error_text', ?1), ?11, ?12,"
            " seal(?13, 'message.text', ?1), seal(?14, 'message.token_ids', ?1), ?15,"
            " seal(?16, 'message.reasoning', ?1), ?17, ?18, seal(?19, 'message.tool_calls', ?1),"
            " seal(?20, 'message.call_text', ?1), ?21, seal(?22, 'message.notices', ?1), ?23",
            (
                self._ids[message.id],
                session,
                None if message.parent_id is None else self._rows[message.parent_id],
                "user" if message.role == "tool" else message.role,
                message.status,
                message.created_at,
                _clean(message.model_id),
                message.finish_reason,
                None if error is None else _clean(error.code),
                None if error is None else _clean(error.text),
                None if usage is None else usage.model_dump_json(),
                None if sampling is None else sampling.model_dump_json(),
                text,
                packed(message.token_ids),
                message.mode,
                _clean(message.reasoning),
                None if thought is None else thought.tokens,
                None if thought is None else thought.elapsed_s,
                _stored_list(calls),
                "" if calls else _clean(message.unfinished_call),
                None if call_id is None else self._call_ids[call_id],
                _stored_list(message.notices),
                message.continued,
            ),
        ).lastrowid
        assert number is not None, "an INSERT always has a row"  # noqa: S101
        self._rows[message.id] = number
        if text:
            make_findable(self._connection, number, self._ids[message.id], text)


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)[0]


def _stored_list(values: Sequence[ToolCall] | Sequence[Tool] | Sequence[str]) -> str | None:
    try:
        return listed(values)
    except ValueError as error:
        raise BadRequest(_WHAT, f"a tool or a call in it cannot be kept ({error})", _REMEDY) from error


def _kept_problem(message: KeptMessage) -> str | None:
    """What only a file can get wrong."""
    if message.status == "running":
        return "it is still being written, which it cannot be in a file"
    if message.role != "assistant" and (message.token_ids or message.sampling):
        return "it is not an answer, but holds what only an answer has"
    return None


def _misshapen(error: ValidationError) -> BadRequest:
    """The sentence for bytes that are not a document."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if problem["type"] == "json_invalid":
        return BadRequest(_WHAT, f"it is not the JSON of a conversation ({problem['msg']})", _REMEDY)
    place = [str(step) for step in problem["loc"]]
    if place == ["format"]:
        return BadRequest(_WHAT, f'it does not say that its format is "{DOCUMENT_FORMAT}"', _REMEDY)
    if place == ["version"]:
        why = f"its format is of another version than {DOCUMENT_VERSION}, the one that this Seamount knows"
        return BadRequest(_WHAT, why, "install the newer Seamount that wrote it")
    message = str(problem["msg"]).rstrip(".")
    where = f"`{'.'.join(place)[:200]}`: " if place else ""
    return BadRequest(_WHAT, f"{where}{message[:1].lower()}{message[1:]}", _REMEDY)
