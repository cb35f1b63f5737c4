"""What a file that is not a GGUF most likely is, by its first bytes.

Owns: the signs of the files that people have in place of a model. Does not read files.
"""


def what_it_is(head: bytes) -> str:
    """Why `head`, the first bytes of a file, is not the beginning of a GGUF; names what people often have."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if not head:
        return "it is empty"
    if not head.strip(b"\0"):
        return "it begins with nothing but zeros, as a download does that never arrived"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "it is a web page, not a GGUF; the download ended on an error page"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer that stands for the file, not the file"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return "it is a safetensors file, not a GGUF; it has to be converted first"
    if head.startswith(b"PK\x03\x04"):
        return "it is a zip archive or a PyTorch checkpoint, not a GGUF"
    if head[:4] in (b"lmgg", b"tjgg", b"fmgg", b"algg"):
        return "it is a GGML file from before GGUF, which nothing reads any more"
    if head.startswith(b"FUGG"):
        return "it is a GGUF for big-endian machines"
    return "it is not a GGUF"
