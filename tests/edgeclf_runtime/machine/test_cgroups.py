from __future__ import annotations

from pathlib import Path

import pytest

from edgeclf_runtime.machine.cgroups import core_quota, memory_limit, own_groups

V2 = "24 1 0:20 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "30 1 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw master:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "31 1 0:30 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 1 0:31 / /proc rw - proc proc rw\n"
)


@pytest.fixture
def system(tmp_path):
    """Writes a file system: contents by path."""

    def write(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write


def test_a_container_of_version_2_with_a_namespace_of_its_own(system):
    root = system(
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/memory.max": "268435456\n",
        }
    )
    assert core_quota(root) == 1.5
    assert memory_limit(root) == 256 * 2**20


def test_the_tightest_of_the_groups_around_counts(system):
    root = system(
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/user.slice/stream.service\n",
            "sys/fs/cgroup/user.slice/stream.service/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/other.slice/cpu.max": "10000 100000\n",
            "sys/fs/cgroup/user.slice/stream.service/memory.max": "max\n",
            "sys/fs/cgroup/user.slice/memory.max": "1000000\n",
        }
    )
    assert [str(path.relative_to(root / "sys/fs/cgroup")) for path in own_groups("cpu", root)] == [
        "user.slice/stream.service",
        "user.slice",
        ".",
    ]
    assert core_quota(root) == 3.0
    assert memory_limit(root) == 1_000_000


@pytest.mark.parametrize(
    ("top", "folder"),
    [("/", "sys/fs/cgroup/{controller}/docker/a1"), ("/docker/a1", "sys/fs/cgroup/{controller}")],
    ids=["host", "container"],
)
def test_version_1_on_a_host_and_in_a_container_whose_paths_are_the_hosts(system, top, folder):
    root = system(
        {
            "proc/self/mountinfo": V1.format(top=top),
            "proc/self/cgroup": "9:memory:/docker/a1\n4:cpu,cpuacct:/docker/a1\n1:name=systemd:/docker/a1\n",
            folder.format(controller="cpu,cpuacct") + "/cpu.cfs_quota_us": "200000\n",
            folder.format(controller="cpu,cpuacct") + "/cpu.cfs_period_us": "50000\n",
            folder.format(controller="memory") + "/memory.limit_in_bytes": "536870912\n",
        }
    )
    assert core_quota(root) == 4.0
    assert memory_limit(root) == 512 * 2**20


def test_version_1_without_limits(system):
    root = system(
        {
            "proc/self/mountinfo": V1.format(top="/"),
            "proc/self/cgroup": "9:memory:/\n4:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        }
    )
    assert core_quota(root) is None
    assert memory_limit(root) is None


def test_a_system_without_control_groups(tmp_path):
    assert (own_groups("cpu", tmp_path), core_quota(tmp_path), memory_limit(tmp_path)) == ([], None, None)
