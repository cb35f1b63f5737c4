"""Placement at work: its dialog, and what is asked of the engine for it.

Owns: opening the dialog, once at a time, for a model of the library or for one that can be had, and handing what it
asks for to the shelf. Does not lay anything out.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QWidget
from shiboken6 import isValid

from app.api import EngineApi
from app.model_shelf import ModelShelf
from app.placement_shelf import PlacementShelf
from app.theme import Theme
from engine.protocol import ErrorBody
from engine.protocol_library import Offer
from engine.protocol_placement import Choices, HardwareState

if TYPE_CHECKING:
    from app.views.placement_dialog import PlacementDialog


class PlacementDesk(QObject):
    """`theme` gives the look of the moment, `window` is where the dialog stands."""

    def __init__(
        self,
        api: EngineApi,
        models: ModelShelf,
        theme: Callable[[], Theme],
        window: Callable[[], QWidget],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._api, self._models, self._theme, self._window = api, models, theme, window
        self._dialog: PlacementDialog | None = None
        self._shelf: PlacementShelf | None = None
        self._loaded = self._loaded_now()
        models.changed.connect(self._models_changed)

    @property
    def dialog(self) -> "PlacementDialog | None":
        """The dialog that is open."""
        return self._dialog if self._dialog is not None and isValid(self._dialog) else None

    def open_model(self, model_id: str, name: str) -> None:
        """Of a model that lies here."""
        self._open(PlacementShelf(self._api, model_id), name, model_id)

    def open_offer(self, offer: Offer) -> None:
        """Of a model that can be had."""
        self._open(PlacementShelf(self._api, offer.name, is_offer=True), offer.title, "")

    def hardware_changed(self) -> None:
        """The engine says so."""
        if self.dialog is not None and self._shelf is not None:
            self._shelf.refresh_hardware()

    def _open(self, shelf: PlacementShelf, name: str, model_id: str) -> None:
        from PySide6.QtCore import Qt

        from app.views.placement_dialog import PlacementDialog

        if self.dialog is not None:
            return
        is_offer = not shelf.can_be_kept
        dialog = PlacementDialog(name, self._theme(), is_offer=is_offer, parent=self._window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.finished.connect(shelf.close)  # what it hears after that is for nobody
        self._dialog, self._shelf = dialog, shelf
        shelf.told.connect(dialog.show_placement)
        shelf.refused.connect(dialog.show_trouble)
        shelf.hardware_told.connect(self._hardware_told)
        dialog.changed.connect(shelf.ask_soon)
        dialog.measure_requested.connect(shelf.measure)
        dialog.stop_requested.connect(shelf.stop_measuring)

        def use(choices: Choices) -> None:
            def ok() -> None:
                if isValid(dialog):
                    dialog.accept()

            def failed(error: ErrorBody) -> None:
                if isValid(dialog):
                    dialog.show_refusal(error)

            shelf.keep(choices, load=self._models.loaded_id != model_id, ok=ok, failed=failed)

        dialog.use_requested.connect(use)
        shelf.ask(None)
        shelf.refresh_hardware()
        dialog.open()

    def _hardware_told(self, state: HardwareState) -> None:
        dialog, shelf = self.dialog, self._shelf
        if dialog is None or shelf is None:
            return
        ended = dialog.is_measuring and not state.measuring
        dialog.show_hardware(state)
        if ended:
            shelf.ask(dialog.choices())

    def _models_changed(self) -> None:
        """Another model is loaded, or the same one otherwise: there is other room now."""
        before, self._loaded = self._loaded, self._loaded_now()
        dialog, shelf = self.dialog, self._shelf
        if before != self._loaded and dialog is not None and shelf is not None:
            shelf.ask(dialog.choices())

    def _loaded_now(self) -> object:
        return self._models.status.model if self._models.status else None
