"""How many values a JSON text holds, before it is read.

Owns: that count. Does not know HTTP or what the values mean. Reading JSON and bringing it into shape are single steps
that nothing else in the process can interrupt; their time goes with the values, hardly with the length of texts. So a
body is counted first, in pieces between which other threads have their turn: ten megabytes of a tool's result are
nothing unusual, ten megabytes of `[],[],[]` would hold up everybody's streams for seconds.
"""

_PIECE = 1 << 18
_PAIR, _BACKSLASH, _QUOTE = b"\\\\", b"\\", b'"'


def holds_more_than(data: bytes, most: int) -> bool:
    """Whether the JSON text `data` has more than `most` values, keys counted with them; a little above the true count.

    For what is no JSON the answer means nothing.
    """
    counted, strings, is_inside, left = 1, 0, False, b""
    for start in range(0, len(data), _PIECE):
        # Two backslashes are one in a text; one that is left at the end belongs to what comes next.
        piece = (left + data[start : start + _PIECE]).replace(_PAIR, b"")
        left = _BACKSLASH if piece.endswith(_BACKSLASH) else b""
        piece = piece[: len(piece) - len(left)].replace(b'\\"', b"")
        strings += piece.count(_QUOTE)
        if strings > 2 * most:
            return True
        parts = piece.split(_QUOTE)
        between = b" ".join(parts[1::2] if is_inside else parts[::2])
        is_inside ^= len(parts) % 2 == 0
        counted += sum(map(between.count, (b",", b":", b"[", b"{")))
        if counted > most:
            return True
    return False
