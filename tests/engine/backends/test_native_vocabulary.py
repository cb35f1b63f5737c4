import json
import shutil
from pathlib import Path

import pytest

from engine.backends.native_vocabulary import vocabulary_of_checkpoint, vocabulary_of_gguf
from engine.errors import ModelFileError
from tests.convert.conversions import checkpoint
from tests.engine.backends.native_models import model


def test_both_ways_give_the_same_words(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama_cpp is not installed")
    folder = checkpoint(tmp_path, "0731", layers=2)
    one, other = vocabulary_of_gguf(model()), vocabulary_of_checkpoint(folder, 512)
    assert dict(one.tokenizer.control) == dict(other.tokenizer.control)
    assert one.end_ids == other.end_ids and one.begin_id is None and other.begin_id is None
    assert (one.begin_text, one.end_text) == (other.begin_text, other.end_text)
    assert one.size == other.size == 512
    for text in ("The deep sea.", "é 你 <｜User｜>", ""):
        ids = one.tokenizer.encode(text)
        assert ids == other.tokenizer.encode(text)
        assert b"".join(map(one.token_bytes, ids)) == b"".join(map(other.token_bytes, ids)) == text.encode()
    assert {other.token_bytes(each) for each in other.control_ids} == {b""}
    assert one.release_names[0] == other.release_names[0] == "DeepSeek-V4-Flash-0731"
    one.close()
    other.close()


def test_a_checkpoint_whose_files_are_not_in_order_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, layers=2)
    with pytest.raises(ModelFileError, match="and the model 100"):
        vocabulary_of_checkpoint(folder, 100)
    (folder / "generation_config.json").write_text("[]")
    (folder / "config.json").write_text(json.dumps({"eos_token_id": [1, -5, "x", True, 10**9]}))
    assert vocabulary_of_checkpoint(folder, 512).end_ids == {1}
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"generation_config\.json .* is not JSON"):
        vocabulary_of_checkpoint(folder, 512)
    (folder / "generation_config.json").write_bytes(b" " * (5 << 20))
    with pytest.raises(ModelFileError, match="larger than"):
        vocabulary_of_checkpoint(folder, 512)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        vocabulary_of_checkpoint(folder, 512)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama_cpp is not installed")
    path = tmp_path / "m.gguf"
    path.write_bytes(b"no GGUF")
    with pytest.raises(ModelFileError):
        vocabulary_of_gguf(path)
    shutil.copyfile(model(), path)
    assert vocabulary_of_gguf(path).size == 512
