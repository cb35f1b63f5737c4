import pytest

from engine.completion_news import Progress
from engine.server.answers import UnknownModel, comment


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress("queued", 3), b": queued 3\n\n"),
        (Progress("reading", done=4096, total=100_000), b": reading 4096/100000\n\n"),
        (Progress("writing"), b": writing\n\n"),
    ],
)
def test_comments_are_lines_that_clients_pass_over(progress: Progress, line: bytes) -> None:
    assert comment(progress) == line


def test_an_unknown_model_names_the_one_that_is_served() -> None:
    error = UnknownModel("x" * 10_000, "starter")
    assert "'starter'" in error.text and len(error.text) < 400
    assert "load it in Seamount" in UnknownModel("x", None).text
