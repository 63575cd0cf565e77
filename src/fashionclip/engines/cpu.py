"""What the processor computes natively, read from the operating system alone."""

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def has_bfloat16() -> bool | None:
    """Whether the CPU multiplies bfloat16 natively; None where the system does not say."""
    flags = _flags()
    return None if flags is None else bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def has_vnni() -> bool:
    """Whether the CPU sums products of bytes in 32 bits; only some x86 processors do not."""
    if platform.machine() not in {"x86_64", "AMD64"} or (flags := _flags()) is None:
        return True
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})


def _flags() -> set[str] | None:
    """Feature flags of the first core on Linux; None on other systems."""
    if not _CPUINFO.exists():
        return None
    for line in _CPUINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:  # x86, Arm
            return set(value.split())
    return set()
