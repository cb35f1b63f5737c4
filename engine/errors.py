"""Every failure a person can meet, as one hierarchy.

Owns: the codes, and the sentence made of what failed, why, and what to do. Crosses the wire as
`protocol.ErrorBody`. Does not know HTTP frameworks or Qt; `http_status` is only a number.
"""

from typing import ClassVar


class SeamountError(Exception):
    """A failure with its sentence. `what` failed, `why`, and what to do about it (`remedy`).

    Each part is a clause without a closing full stop; `text` joins them into one sentence.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500

    def __init__(self, what: str, why: str, remedy: str) -> None:
        self.what, self.why, self.remedy = what, why, remedy
        super().__init__(what, why, remedy)

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The whole sentence: what, why, what to do."""
        return f"{self.what}: {self.why}; {self.remedy}."


class Retold(SeamountError):
    """An error that was put into a sentence elsewhere and is told again as it is."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, "", "")
        self.args = (sentence,)

    @property
    def text(self) -> str:
        """The sentence."""
        return self.what


class BadRequest(SeamountError):
    """The request itself cannot be carried out as it was written."""

    code = "bad_request"
    http_status = 400


class NotAllowed(SeamountError):
    """Missing or wrong key, foreign Host, foreign Origin."""

    code = "not_allowed"
    http_status = 403


class MissingKey(NotAllowed):
    """No bearer key, or not this engine's."""

    code = "missing_key"
    http_status = 401


class TooManyRequests(SeamountError):
    """More than this key may have waiting, or too many wrong keys. `retry_after_s`: when to come again."""

    code = "too_many_requests"
    http_status = 429

    def __init__(self, what: str, why: str, remedy: str, retry_after_s: int = 5) -> None:
        super().__init__(what, why, remedy)
        self.retry_after_s = retry_after_s


class Busy(SeamountError):
    """The engine holds as much of other requests as it can. `retry_after_s`: when to come again."""

    code = "busy"
    http_status = 503
    retry_after_s = 5


class TooSlow(SeamountError):
    """A request that did not come to its end in time."""

    code = "too_slow"
    http_status = 408


class CertificateRefused(SeamountError):
    """A certificate or key for the network's socket that cannot be used."""

    code = "certificate"
    http_status = 422


class NotFound(SeamountError):
    """A session, message, turn or model that is not here."""

    code = "not_found"
    http_status = 404


class Conflict(SeamountError):
    """What was asked clashes with what is running or stored."""

    code = "conflict"
    http_status = 409


class ModelFileError(SeamountError):
    """A model file that cannot be used: truncated, not a GGUF, of an unknown architecture."""

    code = "model_file"
    http_status = 422


class ModelLoadError(SeamountError):
    """A well-formed model that the backend could not load (memory, driver)."""

    code = "model_load"
    http_status = 503


class DoesNotFit(ModelLoadError):
    """A model that this machine has not the memory for as it is now."""

    code = "does_not_fit"
    http_status = 507


class HardwareUnmeasured(SeamountError):
    """This machine cannot be measured."""

    code = "hardware"
    http_status = 503


class LlamaBuildError(SeamountError):
    """Libraries of llama.cpp that cannot be used: not there, of another version, or they crash."""

    code = "llama_build"
    http_status = 422


class NoModel(SeamountError):
    """No model is loaded and none was named."""

    code = "no_model"
    http_status = 503


class ModelLoading(SeamountError):
    """The model that was asked for is still being loaded."""

    code = "model_loading"
    http_status = 503


class ChatTemplateError(SeamountError):
    """A chat template that is missing, broken, or not safe to run."""

    code = "chat_template"
    http_status = 422


class UnknownRelease(SeamountError):
    """A DeepSeek-V4 model whose release, and so whose way to write prompts, is not known."""

    code = "unknown_release"
    http_status = 422


class ConversationError(BadRequest):
    """A conversation that no prompt can be made of: an unknown role, a developer message without text."""

    code = "conversation"


class FormRefused(BadRequest):
    """What an answer has to look like cannot be enforced: a schema too large, not in order, or with a keyword that no
    grammar can follow."""

    code = "form_refused"


class CompletionError(SeamountError):
    """What a model wrote does not have the form of an answer."""

    code = "completion"
    http_status = 422


class ContextTooSmall(SeamountError):
    """The loaded context is smaller than what was asked for needs."""

    code = "context_too_small"
    http_status = 409


class PromptTooLong(SeamountError):
    """The conversation does not fit the loaded context: it has `tokens`, and `most_tokens` fit, where that is told."""

    code = "prompt_too_long"
    http_status = 413
    tokens: int | None = None
    most_tokens: int = 0


class GenerationError(SeamountError):
    """The backend failed in the middle of an answer."""

    code = "generation"
    http_status = 500


class RemoteError(SeamountError):
    """A model on another machine could not be asked, or did not answer as a model does."""

    code = "remote"
    http_status = 502


class RemoteUnreachable(RemoteError):
    """Nobody answers there; nothing was sent, so it may be asked again."""

    code = "remote_unreachable"
    http_status = 502


class RemoteBusy(RemoteError):
    """The server takes no more now, and has not begun."""

    code = "remote_busy"
    http_status = 503


class RemoteBrokeOff(RemoteError):
    """The connection ended after the question was sent: it may have been computed and charged."""

    code = "remote_broke_off"
    http_status = 502


class RemoteKeyRefused(RemoteError):
    """The server wants a key, or another one, or money."""

    code = "remote_key"
    http_status = 502


class RemoteChanged(RemoteError):
    """It is no longer what was agreed to; a person looks first."""

    code = "remote_changed"
    http_status = 409


class TraceError(SeamountError):
    """A routing trace that cannot be recorded or read."""

    code = "trace"
    http_status = 422


class DataFolderError(SeamountError):
    """The data folder cannot be read or written."""

    code = "data_folder"
    http_status = 507


class DiskFull(DataFolderError):
    """The disk that holds the data folder is full."""

    code = "disk_full"
    http_status = 507


class SnapshotDamaged(DataFolderError):
    """A kept state of a context that cannot be used; it was set aside."""

    code = "snapshot_damaged"
    http_status = 507


class SnapshotRefused(DataFolderError):
    """A state of a context that is not kept: there is no room for it in what snapshots may take."""

    code = "snapshot_refused"
    http_status = 507


class StoreVersionError(DataFolderError):
    """The session store was written by a newer Seamount."""

    code = "store_version"
    http_status = 507


class NewerData(StoreVersionError):
    """A newer Seamount used the data folder last. `can_go_back`: what was there before can be put back."""

    code = "newer_data"
    http_status = 507
    can_go_back = False


class NotBackedUp(DataFolderError):
    """The backup before a newer Seamount's first start cannot be made; it may be started without one, if asked."""

    code = "not_backed_up"
    http_status = 507


class SealBroken(DataFolderError):
    """An encrypted value that does not open: changed, moved, or sealed with another key."""

    code = "seal_broken"


class KeyMissing(DataFolderError):
    """The conversations are encrypted, and their key is not here, or another one is."""

    code = "conversations_locked"
    http_status = 423


class KeyNotKept(DataFolderError):
    """There is no place for a key: no keyring that counts, or a file that cannot hold it."""

    code = "key_not_kept"
    http_status = 409


class EngineRunning(SeamountError):
    """Another engine already serves this data folder."""

    code = "engine_running"
    http_status = 409


class PortTaken(SeamountError):
    """The port to listen on is in use."""

    code = "port_taken"
    http_status = 409


class EngineUnreachable(SeamountError):
    """A client cannot start or reach the engine."""

    code = "engine_unreachable"
    http_status = 503


class ConversionFailed(SeamountError):
    """A checkpoint could not be converted, or a converted file not be checked."""

    code = "conversion"
    http_status = 422


class ConversionStopped(ConversionFailed):
    """It was ended on request, and can go on."""

    code = "conversion_stopped"
    http_status = 409


class ConversionDiskFull(ConversionFailed):
    """The disk for the result is full; once there is room, it can go on."""

    code = "conversion_disk_full"
    http_status = 507


class FetchFailed(SeamountError):
    """A model could not be fetched, or a fetched one not be checked; what has arrived is kept."""

    code = "fetch"
    http_status = 502


class FetchStopped(FetchFailed):
    """It was ended on request, and can go on."""

    code = "fetch_stopped"
    http_status = 409


class FetchDiskFull(FetchFailed):
    """The disk for the download or for what is made of it has no room; once there is, it can go on."""

    code = "fetch_disk_full"
    http_status = 507


class HubUnreachable(FetchFailed):
    """The hub does not answer, or must not be asked: no network, a proxy that refuses, offline mode."""

    code = "hub_unreachable"
    http_status = 502


class RepositoryGone(FetchFailed):
    """There is no such repository, revision or file at the hub, or not any more."""

    code = "repository_gone"
    http_status = 404


class TokenNeeded(FetchFailed):
    """The repository is only for those who may: a token is missing, not valid any more, or has not the right."""

    code = "token_needed"
    http_status = 401


class LibraryError(SeamountError):
    """Something in the library could not be added, removed or moved."""

    code = "library"
    http_status = 422


class MoveStopped(LibraryError):
    """A move was ended on request, and can go on."""

    code = "move_stopped"
    http_status = 409


class TaskStopped(SeamountError):
    """Work on what is kept was ended on request."""

    code = "task_stopped"
    http_status = 409


class PartError(SeamountError):
    """An optional part could not be installed: not for this machine, not to be found, not what it should be."""

    code = "part"
    http_status = 422


class PartUnreachable(PartError):
    """It could not be fetched over the network."""

    code = "part_unreachable"
    http_status = 502


class PartBrokeOff(PartUnreachable):
    """Its download had begun, and did not come to its end; worth another try at once."""

    code = "part_broke_off"


class FeedRefused(SeamountError):
    """The feed that tells of newer versions did not answer, or not with what a feed is."""

    code = "update_feed"
    http_status = 502


class BackupRefused(SeamountError):
    """A file that is no backup, or not a whole one."""

    code = "backup"
    http_status = 422
