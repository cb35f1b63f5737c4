"""llama.cpp in this process: the one door through which its library is used.

Owns: loading it, together with those backends of ggml that are files of their own, before anybody calls it. Importing
this module does that. Does not know models. Which folder the library comes from is settled before
(`engine.llama_builds`).
"""

import llama_cpp
import llama_cpp.llama_cpp as llama

from engine.backends.ggml_backends import load

__all__ = ["VERSION", "backends", "llama"]

VERSION: str = llama_cpp.__version__
"""Of llama-cpp-python."""
backends = load()
"""What of ggml's backends was loaded, and what was left out."""
