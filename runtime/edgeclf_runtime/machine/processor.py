"""What the processor can do: its name, its cores, and the instructions that make a model of some precision fast."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeclf_runtime.machine.cores import physical_cores

Arithmetic = Literal["fp32", "int8", "fp16", "bf16"]

# Names in /proc/cpuinfo (`flags` on x86, `Features` on ARM), see Linux's arch/x86/include/asm/cpufeatures.h and
# Documentation/arch/arm64/elf_hwcaps.rst; what people call them; and what they compute.
_INSTRUCTIONS: tuple[tuple[str, str, Arithmetic], ...] = (
    ("avx2", "AVX2", "fp32"),
    ("avx512f", "AVX-512", "fp32"),
    ("asimd", "NEON", "fp32"),
    ("sve", "SVE", "fp32"),
    ("avx_vnni", "AVX-VNNI", "int8"),
    ("avx512_vnni", "AVX-512 VNNI", "int8"),
    ("amx_int8", "AMX", "int8"),
    ("asimddp", "dotprod", "int8"),
    ("i8mm", "i8mm", "int8"),
    ("avx512_fp16", "AVX-512 FP16", "fp16"),
    ("amx_fp16", "AMX", "fp16"),
    ("asimdhp", "NEON half precision", "fp16"),
    ("avx512_bf16", "AVX-512 BF16", "bf16"),
    ("amx_bf16", "AMX", "bf16"),
    ("bf16", "bf16", "bf16"),
)


@dataclass(frozen=True)
class Processor:
    """A processor.

    Attributes:
        name: Its model, or its architecture where it does not say.
        instructions: The instruction sets that it has, by what they compute; None where the system does not say.
        cores: Physical cores of the machine; None where the system does not say.
    """

    name: str
    instructions: dict[Arithmetic, tuple[str, ...]] | None
    cores: int | None


def read_processor(root: Path = Path("/")) -> Processor:
    """Returns what the system says of the processor; on other systems than Linux that is its name.

    Args:
        root: Where the file system starts.
    """
    fields: dict[str, str] = {}
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())  # of the first processor: the others are like it
    flags = fields.get("flags", fields.get("Features"))
    return Processor(
        fields.get("model name") or platform.processor() or platform.machine(),
        None if flags is None else _instructions(set(flags.split())),
        physical_cores(root),
    )


def _instructions(flags: set[str]) -> dict[Arithmetic, tuple[str, ...]]:
    found: dict[Arithmetic, tuple[str, ...]] = {"fp32": (), "int8": (), "fp16": (), "bf16": ()}
    for flag, name, arithmetic in _INSTRUCTIONS:
        if flag in flags:
            found[arithmetic] += (name,)
    return found
