"""The hub: what lies in a repository, and the bytes of its files.

Owns: everything that knows `huggingface_hub`: its addresses, headers, connections (with proxies and certificates as
it has them), its offline mode and where its tools keep a token; and its failures, each turned into one of
`engine.errors`. Does not know where files go, and repeats nothing: what fails in a way that passes is a
`HubBusyError`, and whoever asked waits. (The library's own repeats would sleep where no pause could reach them.)

Files come by plain HTTP with ranges, never by Xet: so they can be hashed, limited and gone on with. The token goes
to the hub alone, not to where the hub redirects to, and neither it nor a signed address is part of an error or a log.
"""

import contextlib
import importlib
import logging
import os
import re
import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from convert.wording import quoted
from engine.errors import FetchFailed, HubUnreachable, RepositoryGone, TokenNeeded
from engine.library.fetching.remote_file import RemoteFile
from engine.version import version

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 30.0
"""A connection that brings nothing for so long is given up."""
REQUEST_BYTES = 4 << 30
"""One request asks for so much at most: signed addresses expire, and plain downloads end at 50 GB."""
LISTING_TIMEOUT_S = 30.0
MOST_FILES = 100_000
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_ENVIRONMENT = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")


class HubBusyError(HubUnreachable):
    """A failure that passes: no network, a busy server, an address that expired. What was asked can be asked again.

    `wait_s`: how long the hub wants to be left alone; None: it did not say. `expired`: only the address was too old.
    """

    def __init__(self, what: str, why: str, *, wait_s: float | None = None, expired: bool = False) -> None:
        super().__init__(what, why, "try again later")
        self.wait_s, self.expired = wait_s, expired


class WrongContentError(FetchFailed):
    """What is sent is not the file that was listed: another size, another digest."""


@dataclass(frozen=True)
class Listing:
    """A repository at one commit.

    `revision` is the whole commit; `modified_s`: when the repository was changed last (Unix seconds), 0.0: not told;
    `gated`: its files are only for those who asked for access; `licence`: as its card names it.
    """

    repository: str
    revision: str
    files: tuple[RemoteFile, ...]
    gated: bool = False
    private: bool = False
    modified_s: float = 0.0
    licence: str | None = None


def default_token() -> str | None:
    """The token that Hugging Face's own tools would use: HF_TOKEN, or their file."""
    return _library().get_token()


def default_endpoint() -> str:
    """The hub's address as HF_ENDPOINT has it, else the hub itself."""
    return str(_library().constants.ENDPOINT)


def cached_file(repository: str, revision: str, file: RemoteFile) -> Path | None:
    """Where Hugging Face's own cache on this machine holds the file, by its size and the name of its content.

    The content is not read: it may still be another one.
    """
    found = _library().try_to_load_from_cache(repository, file.path, revision=revision)
    if not isinstance(found, str) or not file.digest:
        return None
    place = Path(found)
    try:
        # In the cache a file is a link to its content, which is named by its digest (copies where links cannot be).
        named = place.resolve().name == file.digest or not place.is_symlink()
        return place if named and place.stat().st_size == file.size_bytes else None
    except OSError:
        return None


class Hub:
    """One hub, and who asks it. May be used from several threads.

    `endpoint`: its address; None: what HF_ENDPOINT says, else the hub itself. `token`: sent with each request to it;
    None: nobody. `offline`: nothing is asked; so it is too with HF_HUB_OFFLINE.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None, offline: bool = False) -> None:
        self.endpoint = (endpoint or default_endpoint()).rstrip("/")
        self._token = token
        self._offline = offline
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._aborted = False

    def listing(self, repository: str, revision: str = "main") -> Listing:
        """What lies in the repository at a commit, tag or branch.

        Raises HubBusyError, HubUnreachable, RepositoryGone, TokenNeeded, FetchFailed.
        """
        what = f"{repository} cannot be looked up"
        self._refuse_offline(what)
        library = _library()
        with self._told(what, repository):
            told = library.HfApi(
                endpoint=self.endpoint,
                token=self._token or False,
                library_name="seamount",
                library_version=version(),
            ).model_info(repository, revision=revision, files_metadata=True, timeout=LISTING_TIMEOUT_S)
        try:
            return _listing(repository, told)
        except (TypeError, ValueError, AttributeError) as error:
            raise FetchFailed(
                what, f"what {self._host()} answered is not a listing", "ask another hub, or try again later"
            ) from error

    @contextlib.contextmanager
    def stream(
        self, repository: str, revision: str, file: RemoteFile, start: int, stop: int
    ) -> Generator[Iterator[bytes]]:
        """The bytes [start, stop) of a file as pieces of any length; fewer come when the connection ends early.

        Raises, also while pieces are taken: HubBusyError, HubUnreachable, RepositoryGone, TokenNeeded,
        WrongContentError when what is sent has another size or digest than was listed, FetchFailed.
        """
        what = f"{file.path} of {repository} cannot be fetched"
        self._refuse_offline(what)
        library = _library()
        address = library.hf_hub_url(repository, file.path, revision=revision, endpoint=self.endpoint)
        headers = library.utils.build_hf_headers(
            token=self._token or False, library_name="seamount", library_version=version()
        ) | {"Accept-Encoding": "identity", "Range": f"bytes={start}-{stop - 1}"}
        with (
            self._told(what, repository),
            library.utils.http_stream_backoff(
                "GET",
                address,
                headers=headers,
                timeout=_timeout(),
                follow_redirects=True,
                retry_on_exceptions=(),  # no repeats by the library: see above
                retry_on_status_codes=(),
            ) as response,
            self._abortable(response),
        ):
            self._check(response, what, repository, file)
            yield _pieces(response, _beginning(response, what, file, start), stop - start)

    def abort(self) -> None:
        """End all streams that are open, from another thread, and those that are opened later at once."""
        with self._lock:
            self._aborted = True
            for each in self._sockets:
                _shut(each)

    # --- failures ------------------------------------------------------------------------------------

    def _host(self) -> str:
        return urlsplit(self.endpoint).hostname or self.endpoint

    def _refuse_offline(self, what: str) -> None:
        if self._offline or _library().constants.is_offline_mode():
            where = "in the settings" if self._offline else "by HF_HUB_OFFLINE"
            raise HubUnreachable(what, f"offline mode is on {where}", "switch it off to ask the hub")

    @contextlib.contextmanager
    def _abortable(self, response: "httpx2.Response") -> Generator[None]:
        stream = response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if not isinstance(connection, socket.socket):
            yield
            return
        with self._lock:
            self._sockets.add(connection)
            if self._aborted:
                _shut(connection)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(connection)

    @contextlib.contextmanager
    def _told(self, what: str, repository: str) -> Generator[None]:
        """Whatever the library raises, as one of our errors. Its own texts hold addresses and are not passed on."""
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            _library().utils.get_session()  # one is kept; making it reads what the environment says
        except (ImportError, OSError, ValueError):
            raise HubUnreachable(
                what,
                "the proxy or the certificates that the environment names cannot be used",
                "let ALL_PROXY, HTTPS_PROXY and HTTP_PROXY name an http proxy (SOCKS is not understood), and "
                "SSL_CERT_FILE a file of certificates, or unset them",
            ) from None
        try:
            yield
        except HfHubHTTPError as error:
            raise self._refusal(error.response, what, repository) from None
        except OfflineModeIsEnabled:
            raise HubUnreachable(what, "offline mode is on", "switch it off to ask the hub") from None
        except HFValidationError:
            raise RepositoryGone(
                what, "its name cannot be one of a repository", "write it as OWNER/NAME"
            ) from None
        except httpx2.ProxyError as error:
            if "407" in str(error):
                raise _proxy_asks(what) from None
            raise HubBusyError(
                what, "the proxy between here and the hub refuses or does not answer"
            ) from None
        except httpx2.TimeoutException:
            raise HubBusyError(what, f"{self._host()} does not answer") from None
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError):
            raise HubUnreachable(
                what,
                f"the address {quoted(self._host())} or the access token cannot be used as it is",
                "correct it in the settings",
            ) from None
        except httpx2.TooManyRedirects:
            raise HubUnreachable(
                what, f"{self._host()} sends from one address to the next without end", "ask another hub"
            ) from None
        except httpx2.TransportError as error:
            if _is_about_certificates(error):
                raise HubUnreachable(
                    what,
                    f"the certificate of {self._host()} is not trusted",
                    "check the clock of this machine, or add your network's certificate (SSL_CERT_FILE)",
                ) from None
            began = not isinstance(error, httpx2.ConnectError)
            why = (
                f"the connection to {self._host()} broke off"
                if began
                else f"there is no way to {self._host()}"
            )
            raise HubBusyError(what, why) from None
        except (httpx2.HTTPError, httpx2.StreamError):
            raise HubBusyError(what, f"what {self._host()} sent cannot be understood") from None
        except RuntimeError as error:
            # A connection pool that was closed by another thread: a new one is made at the next request.
            if "closed" not in str(error):
                raise
            raise HubBusyError(what, "the connection was closed") from None

    def _check(self, response: "httpx2.Response", what: str, repository: str, file: RemoteFile) -> None:
        """Raise when the answer is a refusal, or of another file than was listed."""
        if response.status_code >= 400:
            raise self._refusal(response, what, repository)
        if response.status_code not in (200, 206):
            raise HubBusyError(what, f"{self._host()} answers with status {response.status_code}")
        for each in (*response.history, response):
            linked = each.headers.get("X-Linked-Size")
            if linked is not None and linked.isdigit() and int(linked) != file.size_bytes:
                raise _other_size(what, file, int(linked))
            # Only the hub's own word: a store's ETag may be the digest of something else.
            told = each.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
            if file.sha256 and _SHA256.fullmatch(told) and told != file.sha256:
                raise WrongContentError(
                    what,
                    f"the hub offers other content than it listed (SHA-256 {told[:12]}… in place of "
                    f"{file.sha256[:12]}…)",
                    "look the repository up again",
                )

    def _refusal(self, response: "httpx2.Response", what: str, repository: str) -> FetchFailed:
        """What an answer of 400 or more means."""
        status = response.status_code
        code = response.headers.get("X-Error-Code", "")
        message = response.headers.get("X-Error-Message", "")
        page = f"{self.endpoint}/{repository}"
        if status in (408, 425, 429) or status >= 500:
            why = "asks to wait" if status == 429 else f"is in trouble (status {status})"
            return HubBusyError(what, f"{self._host()} {why}", wait_s=_wait_s(response))
        if response.history and not code and status in (400, 401, 403, 404, 410):
            return HubBusyError(
                what, f"the store behind {self._host()} refuses (status {status})", expired=True
            )
        if message == "Access to this resource is disabled.":
            return RepositoryGone(what, "the hub has closed access to it for everybody", "choose another one")
        if status == 407:
            return _proxy_asks(what)
        if status == 401 and message.startswith("Invalid"):
            return TokenNeeded(what, "the access token is not valid, or not any more", "give another one")
        if status in (401, 403) and code == "GatedRepo":
            if self._token is None:
                return TokenNeeded(
                    what,
                    "its files are only for those who were granted access",
                    f"ask at {page}, then give an access token",
                )
            return TokenNeeded(
                what, "access was not granted to the owner of this access token", f"ask for it at {page}"
            )
        if status == 401 and self._token is None:
            return TokenNeeded(
                what,
                "there is no such repository, or it wants an access token",
                "check its name, or give a token",
            )
        if status == 401:
            return TokenNeeded(what, "the access token is not enough for it", "give another one")
        if status == 403 and self._token is None:
            return TokenNeeded(
                what, "nobody may read it without an access token", "give one that may read it"
            )
        if status == 403:
            return TokenNeeded(
                what, "the access token has not the right to read it", f"give another one, or ask at {page}"
            )
        if code == "RevisionNotFound":
            return RepositoryGone(
                what, "there is no such revision of it, or not any more", "choose another revision"
            )
        if code == "EntryNotFound":
            return RepositoryGone(what, "the file is not there any more", "look the repository up again")
        if status == 404:
            return RepositoryGone(
                what, f"{self._host()} has no such repository, or not for you", "check its name"
            )
        if status == 416:
            return WrongContentError(
                what, "the file is shorter than was listed", "look the repository up again"
            )
        return FetchFailed(
            what, f"{self._host()} refuses (status {status})", "check the name, or try again later"
        )


def _library() -> ModuleType:
    """huggingface_hub, told before it is loaded what it must not do."""
    for name in _ENVIRONMENT:
        os.environ.setdefault(name, "1")
    import huggingface_hub

    for name in ("constants", "utils"):  # it does not load them by itself when they are asked for
        importlib.import_module(f"huggingface_hub.{name}")
    # It tells a log each address that it asks; a signed one opens a gated file to whoever reads it there.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return huggingface_hub


def _timeout() -> Any:
    import httpx2

    return httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)


def _listing(repository: str, told: Any) -> Listing:
    commit = str(told.sha)
    siblings = cast(list[Any], told.siblings or [])
    if not _COMMIT.fullmatch(commit) or len(siblings) > MOST_FILES:
        raise ValueError(commit)
    files: list[RemoteFile] = []
    for each in siblings:
        size = each.lfs.size if each.lfs else each.size
        sha256 = str(each.lfs.sha256) if each.lfs else None
        if not isinstance(size, int) or size < 0 or (sha256 is not None and not _SHA256.fullmatch(sha256)):
            raise ValueError(each.rfilename)
        git = each.blob_id if isinstance(each.blob_id, str) and _COMMIT.fullmatch(each.blob_id) else None
        files.append(RemoteFile(str(each.rfilename), size, sha256, None if sha256 else git))
    licence = getattr(told.card_data, "license", None)
    return Listing(
        repository,
        commit,
        tuple(files),
        gated=bool(told.gated),
        private=bool(told.private),
        modified_s=told.last_modified.timestamp() if told.last_modified else 0.0,
        licence=licence if isinstance(licence, str) else None,
    )


def _beginning(response: "httpx2.Response", what: str, file: RemoteFile, start: int) -> int:
    """How many bytes of the body come before `start`. Raises when the body is not that part of the file."""
    encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    if response.status_code == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or encoded or int(found[1]) != start:
            raise HubBusyError(what, "another part of the file was sent than was asked for")
        if found[3] != "*" and int(found[3]) != file.size_bytes:
            raise _other_size(what, file, int(found[3]))
        return 0
    length = response.headers.get("Content-Length", "")
    if not encoded and length.isdigit() and int(length) != file.size_bytes:
        raise _other_size(what, file, int(length))
    return start


def _pieces(response: "httpx2.Response", skip: int, wanted: int) -> Iterator[bytes]:
    """The body without its first `skip` bytes, `wanted` bytes of it at most."""
    encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    for piece in response.iter_bytes() if encoded else response.iter_raw():
        if skip:
            dropped = min(skip, len(piece))
            skip -= dropped
            piece = piece[dropped:]
        if piece:
            piece = piece[:wanted]
            wanted -= len(piece)
            yield piece
        if not wanted:
            return


def _other_size(what: str, file: RemoteFile, size: int) -> WrongContentError:
    return WrongContentError(
        what,
        f"the hub listed {file.size_bytes:,} bytes, and now offers {size:,}",
        "look the repository up again, and tell those who keep it if that does not help",
    )


def _proxy_asks(what: str) -> HubUnreachable:
    return HubUnreachable(
        what, "the proxy wants to know who asks", "put name and password into HTTPS_PROXY and HTTP_PROXY"
    )


def _wait_s(response: "httpx2.Response") -> float | None:
    """What Retry-After or the hub's rate limit say, in seconds."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    told = response.headers.get("Retry-After", "").strip()
    return float(told) if told.isdigit() and len(told) < 7 else None


def _is_about_certificates(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # The socket's own, also of TLS: that one would first take apart what another thread reads from.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
