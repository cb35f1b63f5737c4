"""Model files: reading their headers safely; checkpoint in, GGUF out, in bounded memory."""
