from __future__ import annotations

from edgeclf_runtime.machine.memory import Memory, read_memory


def test_memory_in_bytes_with_the_containers_limit(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal:        4012345 kB\nMemFree:          100000 kB\nMemAvailable:    2000000 kB\nHugePages_Total:   0\n"
    )
    (tmp_path / "proc/self/mountinfo").write_text("1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("1000000\n")
    assert read_memory(tmp_path) == Memory(4012345 * 1024, 2000000 * 1024, 1_000_000)


def test_a_system_that_says_nothing(tmp_path):
    assert read_memory(tmp_path) == Memory(None, None, None)
