from __future__ import annotations

import pytest

from edgeclf_runtime.machine.processor import read_processor

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu avx avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 avx512_fp16 amx_tile amx_int8

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
EPYC = "model name\t: AMD EPYC 7763\nflags\t\t: fpu avx avx2 fma\n"
PI_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n"
PI_5 = "processor\t: 0\nFeatures\t: fp asimd evtstrm fphp asimdhp asimddp\nCPU part\t: 0xd0b\n"
NEOVERSE_V2 = "Features\t: asimd asimdhp asimddp sve i8mm bf16\n"
OLD = "model name\t: Intel(R) Atom(TM)\nflags\t\t: fpu sse4_2\n"


@pytest.mark.parametrize(
    ("text", "fp32", "int8", "fp16", "bf16"),
    [
        (XEON, ["AVX2", "AVX-512"], ["AVX-512 VNNI", "AMX"], ["AVX-512 FP16"], ["AVX-512 BF16", "AMX"]),
        (EPYC, ["AVX2"], [], [], []),
        (PI_4, ["NEON"], [], [], []),
        (PI_5, ["NEON"], ["dotprod"], ["NEON half precision"], []),
        (NEOVERSE_V2, ["NEON", "SVE"], ["dotprod", "i8mm"], ["NEON half precision"], ["bf16"]),
        (OLD, [], [], [], []),
    ],
)
def test_instructions_by_what_they_compute(tmp_path, text, fp32, int8, fp16, bf16):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text)
    found = read_processor(tmp_path)
    assert found.instructions is not None
    assert {name: list(names) for name, names in found.instructions.items()} == {
        "fp32": fp32,
        "int8": int8,
        "fp16": fp16,
        "bf16": bf16,
    }
    if "model name" in text:
        assert found.name == text.split("model name\t: ")[1].split("\n")[0]


def test_two_threads_of_a_core_count_once(tmp_path):
    for processor, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        path = tmp_path / f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(siblings + "\n")
    assert read_processor(tmp_path).cores == 2


def test_a_system_that_says_nothing(tmp_path):
    found = read_processor(tmp_path)
    assert found.name
    assert (found.instructions, found.cores) == (None, None)
