"""Quantities as people read them.

Owns: sizes and durations in words. Pure, and light enough for the first paint.
"""


def size_name(size_bytes: int) -> str:
    """`1.0 MB`: a size in powers of ten."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    if size_bytes < 999_950:
        return f"{size_bytes / 1e3:.1f} kB"
    if size_bytes < 999_950_000:
        return f"{size_bytes / 1e6:.1f} MB"
    return f"{size_bytes / 1e9:,.1f} GB"


def rate(tokens_per_s: float) -> str:
    """Tokens per second, with a decimal only where it tells something: "39.9 tok/s", "1,520 tok/s"."""
    return f"{tokens_per_s:,.1f} tok/s" if tokens_per_s < 100 else f"{tokens_per_s:,.0f} tok/s"


def expert_words(disk_bytes_per_token: float, in_memory: float) -> list[str]:
    """`210.0 MB from disk a token`, `94% of experts in memory`: what experts cost; all in memory is no news."""
    if in_memory >= 1 and disk_bytes_per_token < 1:
        return []
    return [
        f"{size_name(round(disk_bytes_per_token))} from disk a token",
        # Rounded down: 100% would say that nothing is missing.
        f"{int(in_memory * 100)}% of experts in memory",
    ]


def token_count(tokens: int) -> str:
    """`1 token`, `1,340 tokens`."""
    return "1 token" if tokens == 1 else f"{tokens:,} tokens"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def rough_duration(seconds: float) -> str:
    """`3 min 5 s`, `2 h 05 min`, `3 days 4 h`: for what takes long."""
    if seconds < 5400:
        return duration(max(seconds, 0))
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(minutes / 60)
    return f"{hours // 24} days {hours % 24} h"


def whole_duration(seconds: float) -> str:
    """`4 s`, `3 min 5 s`: for what is still counted."""
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
