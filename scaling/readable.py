"""Numbers as people read them: short counts, durations, operations."""


def short_count(value: float) -> str:
    """3 significant digits with k, M, B: `302M`, `9.06M`, `640`."""
    for scale, suffix in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= scale:
            divisor = 1e3 if suffix == "k" else scale
            return f"{value / divisor:.3g}{suffix}"
    return f"{value:,.0f}"


def short_flops(value: float) -> str:
    """Floating-point operations with their usual prefixes: `1.3 PFLOP`, `565 EFLOP`."""
    for scale, prefix in ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}FLOP"
    return f"{value / 1e6:.3g} MFLOP"


def short_time(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `7 h 20 min`, `12 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
