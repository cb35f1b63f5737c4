"""The placement of one model, as the engine tells it, and what is asked of it.

Owns: the requests: a plan for choices that change while a slider moves (asked for once they rest, and an answer that
came too late is dropped), keeping choices, and measuring the machine. Does not know how anything is shown.
"""

from collections.abc import Callable
from urllib.parse import quote, urlencode

from PySide6.QtCore import QObject, QTimer, Signal

from app.api import EngineApi, Failed
from engine.protocol import EngineStatus, ErrorBody, LoadRequest
from engine.protocol_placement import Choices, HardwareState, Placement

REST_MS = 80
"""A slider that has not moved for so long is asked about."""
EXACT_MS = 700
"""Choices that rest for so long are worth a rehearsal, which takes the engine a second or two."""
FIRST_TIMEOUT_S = 60.0
"""A model of many parts on a slow disk has its headers read, and GPUs are looked for."""


class PlacementShelf(QObject):
    """For one model of the library, or one offer of the catalogue (`is_offer`)."""

    told = Signal(object)
    """Placement: the newest that was asked for."""
    refused = Signal(object)
    """ErrorBody: the newest could not be told."""
    hardware_told = Signal(object)
    """HardwareState."""

    def __init__(
        self, api: EngineApi, model_id: str, *, is_offer: bool = False, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._api = api
        where = "library/offers" if is_offer else "models"
        self._path = f"/api/{where}/{quote(model_id, safe='')}/placement"
        self._model_id, self._is_offer = model_id, is_offer
        self._asked = 0
        self._closed = False
        self._wanted: Choices | None = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._ask)
        self._exact = QTimer(self)
        self._exact.setSingleShot(True)
        self._exact.setInterval(EXACT_MS)
        self._exact.timeout.connect(self._ask_exactly)

    @property
    def can_be_kept(self) -> bool:
        """There is a model to keep choices for."""
        return not self._is_offer

    def ask(self, choices: Choices | None) -> None:
        """Ask for a plan at once; None: by what is kept."""
        self._wanted = choices
        self._rest.stop()
        self._ask()

    def ask_soon(self, choices: Choices) -> None:
        """Ask once nothing has changed for REST_MS."""
        self._wanted = choices
        self._exact.stop()
        self._asked += 1  # what is under way is of older choices
        self._rest.start()

    def keep(self, choices: Choices, *, load: bool, ok: Callable[[], None], failed: Failed) -> None:
        """Keep choices; `load`: and load the model, which happens by itself to the one that is loaded."""

        def kept(_: Placement) -> None:
            if not load:
                ok()
                return
            request = LoadRequest(model_id=self._model_id)
            self._api.send("POST", "/api/models/load", request, EngineStatus, lambda _: ok(), failed)

        self._api.send("PUT", self._path, choices, Placement, kept, failed, FIRST_TIMEOUT_S)

    def measure(self) -> None:
        """Begin to measure this machine."""
        self._hardware("POST", "/api/hardware/measure")

    def stop_measuring(self) -> None:
        """Break it off."""
        self._hardware("DELETE", "/api/hardware/measure")

    def refresh_hardware(self) -> None:
        """How far a measurement has come."""
        self._hardware("GET", "/api/hardware")

    def close(self) -> None:
        """Nobody listens any more: nothing is asked or told from here on."""
        self._closed = True
        self._rest.stop()
        self._exact.stop()

    def _hardware(self, method: str, path: str) -> None:
        # Closures: they keep this object until the answer has come, which a bound signal does not.
        def ok(answer: HardwareState) -> None:
            if not self._closed:
                self.hardware_told.emit(answer)

        def failed(error: ErrorBody) -> None:
            if not self._closed:
                self.refused.emit(error)

        self._api.send(method, path, None, HardwareState, ok, failed, FIRST_TIMEOUT_S)

    def _ask(self) -> None:
        self._send(exact=False)

    def _ask_exactly(self) -> None:
        self._send(exact=True)

    def _send(self, *, exact: bool) -> None:
        self._asked += 1
        self._exact.stop()
        number = self._asked

        def ok(answer: Placement) -> None:
            if number == self._asked and not self._closed:
                self.told.emit(answer)
                # What is loaded is told as it is; of what is not here, there is nothing to rehearse.
                if not exact and not self._is_offer and answer.problem is None and not answer.loaded:
                    self._exact.start()

        def failed(error: ErrorBody) -> None:
            if number == self._asked and not exact and not self._closed:
                self.refused.emit(error)

        # An empty query asks for what is kept.
        query = {} if self._wanted is None else self._wanted.model_dump(exclude_none=True)
        if exact:
            query["exact"] = "true"
        path = f"{self._path}?{urlencode(query)}" if query else self._path
        self._api.send("GET", path, None, Placement, ok, failed, FIRST_TIMEOUT_S)
