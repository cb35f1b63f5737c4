"""Which model is held, and what a failed load leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from engine.backends.base import Backend
from engine.backends.scripted import ScriptedBackend
from engine.encoding import v4_chat
from engine.errors import DoesNotFit, ModelFileError, ModelLoadError, RemoteUnreachable, SeamountError
from engine.model_host import ModelHost
from engine.placement.load_needs import needed_mapped_bytes
from engine.placement.load_plan import LoadPlan
from engine.placement.planner import Wishes
from engine.protocol import ErrorBody, ModeChoice, ModelEntry, RemotePlace, Settings
from engine.protocol_placement import Choices
from tests.engine.placement.test_load_needs import plan_of

PROBLEM = ErrorBody(code="model_file", text="It is truncated: it ends early; download it again.")


class Opening:
    """Opens scripted backends and remembers what was asked."""

    def __init__(self, scripted: Callable[..., ScriptedBackend]) -> None:
        self.opened: list[tuple[str, int, int]] = []
        self.closed: list[str] = []
        self.fails: dict[str, Exception] = {}
        self._scripted = scripted

    def __call__(
        self,
        entry: ModelEntry,
        *,
        wishes: Wishes,
        on_progress: Callable[[float], bool],
    ) -> Backend:
        for step in range(101):
            if not on_progress(step / 100):
                raise ModelLoadError("It was not loaded", "it was stopped", "choose it again")
        if entry.id in self.fails:
            raise self.fails[entry.id]
        self.opened.append((entry.id, wishes.context_tokens, wishes.threads))
        backend = self._scripted(name=entry.id, context=wishes.context_tokens)
        close = backend.close

        def closed() -> None:
            self.closed.append(entry.id)
            close()

        backend.close = closed  # type: ignore[method-assign]
        return backend


@pytest.fixture
def opening(scripted: Callable[..., ScriptedBackend]) -> Opening:
    return Opening(scripted)


def entry(model_id: str) -> ModelEntry:
    problem = PROBLEM if model_id == "truncated" else None
    return ModelEntry(id=model_id, name=model_id, path="", size_bytes=0, source="folder", problem=problem)


def host(opening: Opening, **more: Any) -> ModelHost:
    settings = more.pop("settings", Settings(context_tokens=512, threads=3))
    return ModelHost(
        entry,
        lambda: settings,
        more.pop("changed", lambda: None),
        more.pop("remember", lambda _: None),
        opening,
    )


def test_a_load_tells_its_progress_and_what_is_loaded(opening: Opening) -> None:
    seen: list[tuple[str | None, float | None]] = []
    model_host: ModelHost

    def changed() -> None:
        seen.append((model_host.loading_id, model_host.loading_fraction))

    model_host = host(opening, changed=changed)
    model_host.load("a")
    assert opening.opened == [("a", 512, 3)]
    assert model_host.loaded is not None
    assert model_host.loaded.context_tokens == 512
    assert seen[0] == ("a", 0.0)
    assert seen[-1] == (None, None)
    # A hundred steps in no time are not a hundred events.
    assert 2 < len(seen) < 10


def test_the_same_model_is_not_loaded_twice_unless_its_settings_changed(opening: Opening) -> None:
    model_host = host(opening)
    model_host.load("a")
    model_host.load("a")
    assert len(opening.opened) == 1
    model_host.load("a", again=True)
    assert len(opening.opened) == 2
    assert opening.closed == ["a"]


def test_a_header_problem_leaves_the_loaded_model_alone(opening: Opening) -> None:
    model_host = host(opening)
    model_host.load("a")
    model_host.load("truncated")
    assert isinstance(model_host.error, ModelFileError)
    assert model_host.error.text == PROBLEM.text
    assert model_host.loaded_id == "a"
    assert opening.closed == []
    with pytest.raises(ModelFileError, match="truncated"):
        model_host.check("truncated")


def test_a_failed_load_brings_the_model_before_back(opening: Opening) -> None:
    opening.fails = {"b": ModelLoadError("b failed", "no memory", "choose another")}
    remembered: list[str] = []
    model_host = host(opening, remember=remembered.append)
    model_host.load("a", remember=True)
    model_host.load("b", remember=True)
    assert model_host.loaded_id == "a"
    assert model_host.error is opening.fails["b"]
    assert [each[0] for each in opening.opened] == ["a", "a"]
    assert remembered == ["a"]
    model_host.load("a")
    assert model_host.error is None


def test_an_unforeseen_exception_is_a_sentence(opening: Opening) -> None:
    opening.fails = {"b": RuntimeError("segment 7")}
    model_host = host(opening)
    model_host.load("b")
    assert isinstance(model_host.error, ModelLoadError)
    assert "segment 7" in model_host.error.text
    assert model_host.loaded is None
    with pytest.raises(ValueError, match="no model"):
        model_host.keeper()


def test_an_exception_with_a_model_already_open_closes_it_and_brings_the_one_before_back(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_host = host(opening)
    model_host.load("a")

    def chat(backend: Backend, _release: object) -> None:
        if backend.facts.name == "b":
            raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(v4_chat, "v4_chat", chat)
    model_host.load("b")
    assert model_host.error is not None
    assert "b could not be loaded: the engine met an error of its own" in model_host.error.text
    assert model_host.loaded_id == "a"
    assert opening.closed == ["a", "b"]


def test_a_stopped_load_loads_nothing(opening: Opening) -> None:
    model_host = host(opening)
    model_host.load("a")
    model_host.stop_loading()
    model_host.load("b")
    assert model_host.loaded is None
    assert [each[0] for each in opening.opened] == ["a"]


def test_what_was_chosen_for_a_model_stands_before_the_settings(opening: Opening) -> None:
    chosen = {"a": Choices(context_tokens=1024, threads=1, gpu_budget_bytes=0)}
    settings = Settings(context_tokens=512, threads=3, cache_type="q8_0")
    model_host = ModelHost(
        entry,
        lambda: settings,
        lambda: None,
        lambda _: None,
        opening,
        choices=lambda name: chosen.get(name, Choices()),
    )
    assert model_host.opened is None
    model_host.load("a")
    model_host.load("b")
    assert opening.opened == [("a", 1024, 1), ("b", 512, 3)]
    assert model_host.wishes("a") == Wishes(1024, "q8_0", 1, 0)
    assert model_host.loaded is not None and model_host.loaded.own_choices == []
    opened = model_host.opened
    assert opened is not None
    assert opened[:2] == ("b", Wishes(512, "q8_0", 3))
    model_host.load("a")
    assert model_host.loaded.own_choices == ["context_tokens", "threads"]
    model_host.close()
    assert model_host.opened is None


class PlannedBackend(ScriptedBackend):
    """Has a plan, and 100 bytes to give back."""

    spare_bytes = 100

    @property
    def plan(self) -> LoadPlan:  # type: ignore[override]
        return plan_of(mapped=True, copied=False)

    def relieve(self, wanted_bytes: int) -> int:
        given = min(wanted_bytes, self.spare_bytes)
        self.spare_bytes -= given
        return given

    def allow(self, more_bytes: int) -> int:
        return more_bytes // 2


class Planned:
    """Opens backends with a plan, and refuses what it is told to before they are opened."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.asked: list[tuple[str, LoadPlan]] = []
        self.refuses: str | None = None

    def __call__(self, entry: ModelEntry, **wished: Any) -> Backend:
        backend = self.opening(entry, **wished)
        backend.__class__ = PlannedBackend
        return backend

    def check(self, entry: ModelEntry, *, wishes: Wishes, loaded: LoadPlan) -> None:
        self.asked.append((entry.id, loaded))
        if entry.id == self.refuses:
            raise DoesNotFit(
                "It does not fit", f"{wishes.context_tokens:,} tokens are too many", "ask for fewer"
            )


def planned_host(planned: Planned, settings: Callable[[], Settings]) -> ModelHost:
    return ModelHost(
        entry,
        settings,
        lambda: None,
        lambda _: None,
        planned,
        check_fits=planned.check,  # type: ignore[arg-type]
    )


def test_what_will_not_fit_is_refused_before_the_loaded_model_is_given_up(opening: Opening) -> None:
    settings = Settings(context_tokens=512, threads=3)
    planned = Planned(opening)
    model_host = planned_host(planned, lambda: settings)
    model_host.load("a")
    assert planned.asked == []
    backend = model_host.keeper().backend
    settings = Settings(context_tokens=1_000_000, threads=3)
    planned.refuses = "a"
    model_host.load("a", again=True)
    assert isinstance(model_host.error, DoesNotFit)
    assert "1,000,000" in model_host.error.text
    # The very context that holds the conversation is still there.
    assert model_host.keeper().backend is backend
    assert model_host.loaded is not None
    assert model_host.loaded.context_tokens == 512
    assert opening.closed == []
    # Asked with what is loaded, which would give its memory back.
    assert planned.asked == [("a", plan_of(mapped=True, copied=False))]
    planned.refuses = None
    model_host.load("b")
    assert model_host.loaded_id == "b"
    assert opening.closed == ["a"]


def test_an_exception_before_the_loaded_model_is_given_up_is_a_sentence_too(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = Planned(opening)

    def check(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(planned, "check", check)
    model_host = planned_host(planned, lambda: Settings(context_tokens=512, threads=3))
    model_host.load("a")
    model_host.load("b")
    assert model_host.error is not None
    assert "b could not be loaded: the engine met an error of its own" in model_host.error.text
    assert (model_host.loaded_id, model_host.loading_id) == ("a", None)


def test_memory_is_asked_of_the_loaded_model_alone(opening: Opening) -> None:
    model_host = planned_host(Planned(opening), lambda: Settings(context_tokens=512, threads=3))
    assert (model_host.relieve(50), model_host.allow(50), model_host.needed_mapped_bytes) == (0, 0, 0)
    model_host.load("a")
    assert [model_host.relieve(60), model_host.relieve(60)] == [60, 40]
    assert model_host.allow(50) == 25
    assert model_host.needed_mapped_bytes == needed_mapped_bytes(plan_of(mapped=True, copied=False)) > 0
    assert model_host.reads_its_file_again
    model_host.close()
    assert not model_host.reads_its_file_again
    assert (model_host.relieve(50), model_host.needed_mapped_bytes) == (0, 0)


def test_what_computes_is_asked_for_apart_from_the_settings(opening: Opening) -> None:
    """Another backend loads the same model again; the one that "auto" means anyway does not."""
    model_host = host(opening)
    model_host.load("a")
    assert model_host.wishes("a").backend == "auto"
    model_host.asked_backend = "llamacpp"
    model_host.load("a")
    assert len(opening.opened) == 1
    model_host.asked_backend = "native"
    assert model_host.wishes("a").backend == "native"
    assert model_host.wishes("a", Choices(context_tokens=999)) == Wishes(999, threads=3, backend="native")
    model_host.load("a")
    model_host.load("a")
    assert len(opening.opened) == 2
    opened = model_host.opened
    assert opened is not None and opened[1].backend == "native"
    # What fails by it leaves the model before it, and is not asked for again.
    model_host.asked_backend = "llamacpp"
    opening.fails["b"] = ModelFileError("It", "is none", "choose another")
    model_host.load("b")
    assert model_host.loaded_id == "a" and model_host.error is not None
    assert model_host.wishes("a").backend == "native"
    assert host(opening, settings=Settings(backend="native")).wishes("a").backend == "native"


def test_a_model_whose_file_changed_is_loaded_again(opening: Opening, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"one")
    model_host = ModelHost(
        lambda model_id: entry(model_id).model_copy(update={"path": str(path)}),
        lambda: Settings(context_tokens=512, threads=3),
        lambda: None,
        lambda _: None,
        opening,
    )
    model_host.load("a")
    model_host.load("a")
    assert len(opening.opened) == 1
    path.write_bytes(b"another")
    model_host.load("a")
    model_host.load("a")
    assert (len(opening.opened), opening.closed) == (2, ["a"])
    path.unlink()  # what is loaded goes on as long as it can
    model_host.load("a")
    assert len(opening.opened) == 2 and model_host.loaded_id == "a"


FAR = "remote:1"


def far_entry(model_id: str) -> ModelEntry:
    if model_id != FAR:
        return entry(model_id)
    place = RemotePlace(host="api.example.com", whereabouts="elsewhere")
    return ModelEntry(
        id=FAR, name="Far", path="https://api.example.com/v1", size_bytes=0, source="remote", remote=place
    )


class FarModel:
    """In the place of what asks another machine."""

    id = FAR
    modes: ClassVar[list[ModeChoice]] = [ModeChoice(mode="high")]

    def __init__(self) -> None:
        self.error: SeamountError | None = None
        self.reached = 0

    def reach(self, _cancelled: Callable[[], bool]) -> None:
        self.reached += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def far() -> FarModel:
    return FarModel()


@pytest.fixture
def far_host(opening: Opening, far: FarModel) -> ModelHost:
    made = ModelHost(far_entry, Settings, lambda: None, lambda _: None, opening)
    made.remote_model = lambda _model_id: cast(Any, far)
    return made


def test_a_model_on_another_machine_takes_the_place_of_one_of_this(
    far_host: ModelHost, far: FarModel, opening: Opening
) -> None:
    far_host.load("a")
    far_host.load(FAR)
    loaded = far_host.loaded
    assert loaded is not None and (loaded.id, loaded.backend, loaded.context_tokens) == (FAR, "remote", 0)
    assert loaded.remote is not None and loaded.remote.whereabouts == "elsewhere"
    assert opening.closed == ["a"] and far_host.opened is None and far_host.remote() is far
    assert far_host.relieve(1) == 0 and far_host.needed_mapped_bytes == 0
    far_host.load(FAR)
    assert far.reached == 1
    far_host.load("a")
    assert far_host.loaded_id == "a" and far_host.remote() is None
    assert far_host.keeper().backend.facts.name == "a"


def test_one_that_cannot_be_reached_leaves_the_loaded_model(far_host: ModelHost, far: FarModel) -> None:
    far_host.load("a")
    far.error = RemoteUnreachable("Far was not asked", "nothing listens there", "start it")
    far_host.load(FAR)
    assert far_host.loaded_id == "a" and far_host.error is far.error
    assert far_host.remote() is None and far_host.keeper() is not None


def test_a_file_that_fails_gives_way_to_the_other_machine_again(
    far_host: ModelHost, far: FarModel, opening: Opening
) -> None:
    far_host.load(FAR)
    opening.fails["b"] = ModelLoadError("It could not be loaded", "it is broken", "choose another")
    far_host.load("b")
    assert far_host.loaded_id == FAR and far_host.remote() is far
    assert isinstance(far_host.error, ModelLoadError)
