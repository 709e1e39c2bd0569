from __future__ import annotations

import json
import platform
import subprocess
import sys

import numpy as np
import onnxruntime

from edgeclf_runtime.benchmark.facts import machine_facts


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_facts_of_this_machine():
    facts = machine_facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["numpy"] == np.__version__
    assert facts[onnxruntime.package_name] == onnxruntime.__version__
    assert facts["Python"] == platform.python_version()
    assert facts["usable cores"] >= 1
    assert all(isinstance(value, (str, int, float)) and value != "" for value in facts.values())


def test_the_facts_of_a_board(tmp_path):
    write(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    write(tmp_path, "proc/cpuinfo", "Features\t: asimd asimdhp asimddp\n")
    write(tmp_path, "proc/meminfo", "MemTotal:        8000000 kB\n")
    for core, governor in enumerate(("ondemand", "performance", "ondemand")):
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", f"{governor}\n")
    for name, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "1000")):
        write(tmp_path, f"sys/class/powercap/intel-rapl:0/{name}", text)
    write(tmp_path, "sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "other\n")
    facts = machine_facts(tmp_path)
    assert facts["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert facts["instructions"] == "NEON, dotprod, NEON half precision"
    assert facts["memory"] == "8.2 GB"
    assert facts["energy by"] == "RAPL, 1 package"
    assert facts["frequency governor"] == "ondemand, performance"


def test_what_the_system_does_not_tell_is_left_out(tmp_path):
    facts = machine_facts(tmp_path)
    assert not {"board", "instructions", "cores", "quota of cores", "frequency governor", "memory", "energy by"} & set(
        facts
    )
    assert {"processor", "usable cores", "system", "Python", "numpy"} <= set(facts)


def test_nothing_heavy_is_imported():
    program = (
        "import sys; from edgeclf_runtime.benchmark.facts import machine_facts; machine_facts(); "
        "print([name for name in ('torch', 'openvino', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
