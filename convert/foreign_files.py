"""What a file that is not what it should be most likely is, by its first bytes.

Owns: the signs of the files that people have in place of a model. Does not read files.
"""

GGUF = "GGUF"
SAFETENSORS = "safetensors file"


def what_it_is(head: bytes, wanted: str = GGUF) -> str:
    """Why `head`, the first bytes of a file, does not begin a `wanted`; names what people often have."""
    return recognised(head, wanted) or f"it is not a {wanted}"


def recognised(head: bytes, wanted: str = GGUF) -> str | None:
    """The same where one of the known signs is there; None where nothing is known."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if not head:
        return "it is empty"
    if not head.strip(b"\0"):
        return "it begins with nothing but zeros, as a download does that never arrived"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return f"it is a web page, not a {wanted}; the download ended on an error page"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer that stands for the file, not the file"
    if (
        wanted != SAFETENSORS
        and len(head) > 9
        and head[8:9] == b"{"
        and int.from_bytes(head[:8], "little") < 1 << 40
    ):
        return f"it is a safetensors file, not a {wanted}; it has to be converted first"
    if head.startswith(b"PK\x03\x04"):
        return f"it is a zip archive or a PyTorch checkpoint, not a {wanted}"
    if head[:4] in (b"lmgg", b"tjgg", b"fmgg", b"algg"):
        return "it is a GGML file from before GGUF, which nothing reads any more"
    if wanted != GGUF and head.startswith(b"GGUF"):
        return f"it is a GGUF, not a {wanted}"
    if head.startswith(b"FUGG"):
        return "it is a GGUF for big-endian machines"
    return None
