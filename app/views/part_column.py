"""Parts of a message one below the other: its thinking, its text, its calls.

Owns: where each part stands, and the names of places ("slots") in all of them, so that the page can hold on
to one while others grow. Does not know what the parts show.
"""

from dataclasses import dataclass
from typing import Protocol, cast

from PySide6.QtWidgets import QWidget

from app.page_style import PageStyle

PLACES = 4096
"""A slot of the column is its part's number plus PLACES times the part's own slot."""


class Part(Protocol):
    """What a column asks of its parts, which are widgets. Heights are pixels at the width that was set."""

    @property
    def height_px(self) -> int: ...
    def set_width(self, width: int, /) -> None: ...
    def lay_out(self, top: int, bottom: int, /) -> None: ...
    def release(self, top: int, bottom: int, /) -> None: ...
    def place_parts(self) -> None: ...
    def slot_at(self, y: int, /) -> tuple[int, int]: ...
    def slot_top(self, index: int, /) -> int: ...
    def stops(self) -> list[QWidget]: ...
    def restyle(self, style: PageStyle, /) -> None: ...


class RigidPart:
    """For a widget that is measured whole: what a column asks of it, but for its height."""

    _width = 0

    @property
    def height_px(self) -> int:
        """The height at the width that was set."""
        return self.height_for(self._width)

    def height_for(self, width: int, /) -> int:
        """The height in `width` pixels."""
        raise NotImplementedError

    def set_width(self, width: int) -> None:
        """Set the width."""
        self._width = width

    def lay_out(self, _top: int, _bottom: int) -> None:
        """Nothing waits to be measured."""

    def release(self, _top: int, _bottom: int) -> None:
        """Nothing can be let go."""

    def place_parts(self) -> None:
        """Nothing stands inside."""

    def slot_at(self, y: int) -> tuple[int, int]:
        """One slot."""
        return 0, y

    def slot_top(self, index: int) -> int:
        """The top, or the end for what is behind it."""
        return 0 if index <= 0 else self.height_px

    def stops(self) -> list[QWidget]:
        """Itself, where the keyboard can do something with it."""
        return [self] if isinstance(self, QWidget) and self.isEnabled() else []

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom."""


@dataclass(eq=False)
class _Place:
    part: Part
    widget: QWidget
    gap: int
    indent: int
    shown: bool = True


class PartColumn(QWidget):
    """Parts below each other. `margins`: left, top, right, bottom. It can be a part of another column."""

    def __init__(self, parent: QWidget, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> None:
        super().__init__(parent)
        self._margins = margins
        self._places: list[_Place] = []
        self._width = 0

    def add(self, part: Part, *, gap: int = 0, indent: int = 0, at: int | None = None) -> None:
        """Put a part at the end, or at place `at`; `gap` pixels below what is shown above it."""
        place = _Place(part, cast(QWidget, part), gap, indent)
        self._places.insert(len(self._places) if at is None else at, place)
        if self._width:
            part.set_width(self._inner(place))

    def take_away(self, part: Part) -> None:
        """Let go of a part."""
        place = next(place for place in self._places if place.part is part)
        self._places.remove(place)
        place.widget.hide()
        place.widget.deleteLater()

    def set_shown(self, part: Part, shown: bool) -> None:
        """Show or fold away a part."""
        place = next(place for place in self._places if place.part is part)
        if shown != place.shown:
            place.shown = shown
            place.widget.setVisible(shown)

    def parts(self) -> list[Part]:
        """Those that are shown, from top to bottom."""
        return [place.part for place in self._places if place.shown]

    def top_of(self, part: Part) -> int:
        """Where a part begins."""
        return next(top for place, top in self._tops() if place.part is part)

    # --- what a part is asked ---------------------------------------------------------------------------

    @property
    def height_px(self) -> int:
        """The height of all parts; 0 when none has any."""
        end = 0
        for place, top in self._tops():
            height = place.part.height_px
            end = top + height if height else end
        return end + self._margins[3] if end else 0

    def set_width(self, width: int) -> None:
        """Set the width of the column."""
        self._width = width
        for place in self._places:
            place.part.set_width(self._inner(place))

    def lay_out(self, top: int, bottom: int) -> None:
        """Measure what lies between `top` and `bottom`."""
        # One way down, with heights as they become: asking each place for its top would add up all others.
        y, any_above = self._margins[1], False
        for place in self._places:
            if not place.shown:
                continue
            start = y + (place.gap if any_above and place.part.height_px else 0)
            place.part.lay_out(top - start, bottom - start)
            height = place.part.height_px
            if height:
                y += (place.gap if any_above else 0) + height
                any_above = True

    def release(self, top: int, bottom: int) -> None:
        """Take the widgets from what lies outside `top` to `bottom`."""
        for place, start in self._tops():
            place.part.release(top - start, bottom - start)

    def place_parts(self) -> None:
        """Move the parts to where they stand."""
        for place, top in self._tops():
            x = self._margins[0] + place.indent
            place.widget.setGeometry(x, top, self._inner(place), place.part.height_px)
            place.part.place_parts()
            place.widget.show()

    def slot_at(self, y: int) -> tuple[int, int]:
        """The slot at `y` and how far `y` lies below its top."""
        found: tuple[_Place, int] | None = None
        for place, top in self._tops():
            if top > y and found is not None:
                break
            found = place, top
        if found is None:
            return 0, y
        place, top = found
        inner, offset = place.part.slot_at(y - top)
        return self._places.index(place) + PLACES * inner, offset

    def slot_top(self, index: int) -> int:
        """Where a slot begins; of a part that is gone or folded away, where it would be."""
        inner, number = divmod(index, PLACES)
        if number >= len(self._places):
            return self.height_px
        place = self._places[number]
        return self._top(place) + (place.part.slot_top(inner) if place.shown else 0)

    def stops(self) -> list[QWidget]:
        """What Tab visits."""
        return [stop for part in self.parts() for stop in part.stops()]

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom."""
        for place in self._places:
            place.part.restyle(style)

    # --- places -----------------------------------------------------------------------------------------

    def _inner(self, place: _Place) -> int:
        return max(1, self._width - self._margins[0] - self._margins[2] - place.indent)

    def _tops(self) -> list[tuple[_Place, int]]:
        tops: list[tuple[_Place, int]] = []
        y, any_above = self._margins[1], False
        for place in self._places:
            height = place.part.height_px if place.shown else 0
            if any_above and height:
                y += place.gap
            if place.shown:
                tops.append((place, y))
            y += height
            any_above |= height > 0
        return tops

    def _top(self, wanted: _Place) -> int:
        y, number = self._margins[1], self._places.index(wanted)
        for place, top in self._tops():
            if place is wanted:
                return top
            if self._places.index(place) > number:
                break
            y = top + place.part.height_px
        return y
