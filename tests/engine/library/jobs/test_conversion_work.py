"""What is asked of `convert`, and how its failures and findings come out."""

from pathlib import Path
from typing import Any

from convert.conversion_error import ConversionError
from engine.errors import ConversionDiskFull, ConversionFailed, ConversionStopped
from engine.library.jobs.conversion_work import check_against_receipt, convert_checkpoint, failure_of
from engine.protocol_jobs import ConvertRequest, JobProgress
from tests.convert.conversions import checkpoint


def test_each_kind_of_failure_has_its_code() -> None:
    def code(trouble: Any) -> type[Exception]:
        return type(failure_of(ConversionError(trouble, "a", "b", "c")))

    assert code("disk_full") is ConversionDiskFull
    assert code("stopped") is ConversionStopped
    assert code("changed") is ConversionFailed


def test_a_damaged_drafter_is_found_and_named(tmp_path: Path) -> None:
    told: list[JobProgress] = []
    asked = ConvertRequest(source=str(checkpoint(tmp_path / "s", "0731")), target=str(tmp_path / "m.gguf"))
    model, draft = convert_checkpoint(asked, told.append, lambda: False)
    assert told[-1].done_bytes == told[-1].total_bytes > 0
    assert 0 < told[-1].items_done <= told[-1].items
    found = check_against_receipt(model, told.append, lambda: False)
    assert (found.good, found.differences) == (True, [])
    assert found.checked_bytes == model.stat().st_size + draft.stat().st_size
    assert told[-1].stage == "checking"
    content = bytearray(draft.read_bytes())
    content[-1] ^= 1
    draft.write_bytes(content)
    found = check_against_receipt(model, told.append, lambda: False)
    assert not found.good
    assert [each.partition(", ")[0] for each in found.differences] == [draft.name]
