"""What llama.cpp prints, as Python's logging has it.

Owns: its levels, and finding the line that says why something failed. Does not load llama.cpp: `llamacpp`
hands the lines over.
"""

import logging

logger = logging.getLogger("seamount.llama.cpp")
logger.setLevel(logging.WARNING)  # below that, it says hundreds of lines per model

# ggml.h's ggml_log_level; the table in llama_cpp's own logger is that of an older ggml.
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUES = 5
_REASON = "error loading model: "
_NO_REASON = "failed to load model"  # every failed load ends with these words, whatever its reason
_KEPT_ERRORS = 20


class LlamaLog:
    """Hands lines to Python's logging and remembers the errors among them."""

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._level = logging.DEBUG

    def forget(self) -> None:
        """Begin anew: errors from before are of no interest."""
        self._errors.clear()

    def line(self, level: int, text: bytes, _user_data: object = None) -> None:
        """Called by llama.cpp, from any of its threads; never raises."""
        try:
            if level != _CONTINUES:
                self._level = _LEVELS.get(level, logging.DEBUG)
            line = text.decode("utf-8", "replace").strip()
            if not line or set(line) == {"."}:  # dots are its progress bar
                return
            if self._level >= logging.ERROR and len(self._errors) < _KEPT_ERRORS:
                self._errors.append(line)
            logger.log(self._level, "%s", line)
        except Exception:  # noqa: BLE001, S110 - nothing may be raised into C, and a log line is not worth it
            pass

    def reason(self) -> str:
        """The error line that says most, without the name of the function that printed it."""
        telling = [line for line in self._errors if _NO_REASON not in line]
        for line in telling:
            if _REASON in line:
                return line.partition(_REASON)[2]
        if not telling:
            return "llama.cpp gave no reason"
        # Of several, the first is the cause and the later ones its consequences.
        return telling[0].partition(": ")[2] or telling[0]
