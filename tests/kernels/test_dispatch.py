"""A fast path computes where there is one that takes the operands; the reference where not, or where asked for."""

import sys
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import dispatch  # noqa: E402
from kernels.matrices import Matrix  # noqa: E402


def reference(x: torch.Tensor, m: Any = None, *, factor: float = 1.0) -> str:
    return "reference"


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A fast path of the operator `tested`, for operands on the CPU of at most four numbers."""
    module: Any = ModuleType("kernels.tested_fast")
    module.asked = []

    def accepts_tested(x: torch.Tensor, m: Any = None, *, factor: float = 1.0) -> bool:
        module.asked.append(factor)
        return x.numel() <= 4

    module.accepts_tested = accepts_tested

    def tested(x: torch.Tensor, m: Any = None, *, factor: float = 1.0) -> str:
        return f"fast {factor}"

    module.tested = tested
    monkeypatch.setitem(sys.modules, "kernels.tested_fast", module)
    monkeypatch.setitem(dispatch.FAST_PATHS, ("tested", "cpu"), ("kernels.tested_fast",))
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    dispatch.loaded.cache_clear()
    yield module
    dispatch.loaded.cache_clear()


def test_the_operands_choose(path: ModuleType) -> None:
    assert dispatch.run("tested", reference, torch.zeros(4), factor=2.0) == "fast 2.0"
    assert dispatch.run("tested", reference, torch.zeros(5)) == "reference"
    assert path.asked == [2.0, 1.0]
    assert dispatch.run("another", reference, torch.zeros(4)) == "reference"
    assert dispatch.run("tested", reference, torch.zeros(4, device="meta")) == "reference"
    assert path.asked == [2.0, 1.0]  # other devices are not asked


@pytest.mark.parametrize(
    ("setting", "found"), [("reference", "reference"), ("fast", "fast 1.0"), ("", "fast 1.0")]
)
def test_the_environment_can_keep_to_the_reference(
    path: ModuleType, setting: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, setting)
    assert dispatch.run("tested", reference, torch.zeros(4)) == found


def test_another_setting_is_refused(path: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "fastest")
    with pytest.raises(ValueError, match="SEAMOUNT_KERNELS is 'fastest': it can be 'reference' or 'fast'"):
        dispatch.run("tested", reference, torch.zeros(4))


def test_the_reference_computes_where_a_gradient_is_wanted(path: ModuleType) -> None:
    x, leaf = torch.zeros(4), torch.zeros(4, 1, requires_grad=True)
    for wanted in (leaf, (x, leaf), Matrix("f32", 4, 1, leaf)):
        assert dispatch.run("tested", reference, x, wanted) == "reference"
        with torch.no_grad():
            assert dispatch.run("tested", reference, x, wanted) == "fast 1.0"


def test_a_path_whose_compiler_is_not_installed_is_none_but_our_own_mistakes_are_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> Any:
        def imported(module: str) -> Any:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return imported

    monkeypatch.setitem(dispatch.FAST_PATHS, ("tested", "cpu"), ("kernels.absent",))
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    dispatch.loaded.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(dispatch, "import_module", missing("triton.language"))
        assert dispatch.run("tested", reference, torch.zeros(4)) == "reference"
    dispatch.loaded.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"kernels\.absent"):
        dispatch.run("tested", reference, torch.zeros(4))
    dispatch.loaded.cache_clear()
