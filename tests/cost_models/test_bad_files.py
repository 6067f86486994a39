"""A wrong device or library file is refused with one line that says what to correct."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cost_models.description import MAX_FILE_BYTES
from cost_models.device import FOLDER, load_device
from cost_models.errors import DescriptionError, DeviceError, LibraryError
from cost_models.library import FOLDER as LIBRARIES
from cost_models.library import load_library

Tree = dict[str, Any]


def put(path: str, value: object) -> Callable[[Tree], None]:
    """Return an edit that sets the entry at a dotted path."""

    def edit(tree: Tree) -> None:
        node, last = descend(tree, path)
        node[last] = value

    return edit


def drop(path: str) -> Callable[[Tree], None]:
    """Return an edit that removes the entry at a dotted path."""

    def edit(tree: Tree) -> None:
        node, last = descend(tree, path)
        del node[last]

    return edit


def descend(tree: Tree, path: str) -> tuple[Any, Any]:
    node: Any = tree
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in above:
        node = node[part]
    return node, last


DEVICE_CASES = [
    (drop("cpu.llc_bytes.unit"), ["cpu.llc_bytes.unit", "missing", "source", "add it"]),
    (put("cpu.llc_bytes.unit", "MiB"), ["cpu.llc_bytes", "'MiB'", "'bytes'", "convert"]),
    (put("cpu.llc_bytes", 4194304), ["cpu.llc_bytes", "4194304", "not a table", "unit"]),
    (put("cpu.llc_bytes.kind", "guess"), ["llc_bytes.kind", "'guess'", "measured", "assumed"]),
    (put("cpu.llc_bytes.value", 0), ["cpu.llc_bytes", "value 0 is", "give 1 to 1e+14 bytes"]),
    (put("cpu.llc_bytes.value", -3), ["cpu.llc_bytes", "value -3 is", "give 1 to"]),
    (put("cpu.llc_bytes.value", float("inf")), ["cpu.llc_bytes.value", "inf", "finite"]),
    (put("cpu.llc_bytes.value", "4e6"), ["cpu.llc_bytes.value", "'4e6'", "valid number"]),
    (put("cpu.llc_bytes.value", True), ["cpu.llc_bytes.value", "True", "valid number"]),
    (put("cpu.llc_bytes.source", ""), ["cpu.llc_bytes.source", "at least 1 character"]),
    (put("cpu.llc_byte", 1), ["cpu.llc_byte", "unknown key", "clusters, llc_bytes", "spelling"]),
    (drop("memory"), ["memory", "missing", "thermal", "add it"]),
    (put("cpu.clusters.0.cores", 0), ["cpu.clusters.0.cores", "0", "greater than or equal to 1"]),
    (put("cpu.clusters.0.name", "mid"), ["clusters.0.name", "'mid'", "'prime', 'big' or 'little'"]),
    (put("cpu.clusters.1.name", "prime"), ["cpu.clusters", "once", "merge"]),
    (put("dsp.arch", "v60"), ["dsp.arch", "'v60'", "v66"]),
    (put("dsp.clock.turbo.value", 100.0), ["dsp.clock", "must not decrease"]),
    (put("dsp.single_context_rate.value", 1e6), ["dsp", "single_context_rate", "lower it"]),
    (put("dsp", None), ["dsp is null", "give all three"]),
    (put("fastrpc.default_mode", "poll"), ["fastrpc", "'poll'", "pm_qos"]),
    (put("fastrpc.modes.fast", {}), ["fastrpc.modes.fast", "'fast'", "'adaptive'"]),
    (put("fastrpc.modes.none.tail.rows.0.0", 0.1), ["modes.none.tail", "from 0 to 1"]),
    (put("fastrpc.modes.none.tail.rows.5.1", 1.0), ["modes.none.tail", "never decrease"]),
    (
        put("cpu.clusters.0.operating_points.unit", "GHz, W"),
        ["clusters.0.operating_points.unit", "'GHz, W'", "'MHz, mW'"],
    ),
    (
        put("cpu.clusters.0.operating_points.rows.1.0", 1.0),
        ["clusters.0.operating_points", "row 1 follows 844.8", "sort it"],
    ),
    (
        put("cpu.clusters.0.operating_points.rows.0.1", 0.0),
        ["clusters.0.operating_points", "value 0 is", "give 1 to 1e+06 mW"],
    ),
    (put("memory.training_budget_bytes.value", 1e12), ["memory", "training_budget", "lower it"]),
]


PRIME, NONE = "cpu.clusters.0", "fastrpc.modes.none"
ABSURD_CASES = [
    (put("dsp.power_mw.value", 1e300), "dsp.power_mw: value 1e+300 is not allowed; give 1 to"),
    (put("prepare.repack_rate.value", 1e300), "prepare.repack_rate: value 1e+300 is not allowed"),
    (
        put("dsp.macs_per_cycle_per_context.value", 1e-300),
        "value 1e-300 is not allowed; give 0.01 to 1e+06 MAC/cycle",
    ),
    (put("thermal.ambient_c.value", 1e308), "ambient_c: value 1e+308 is not allowed; give -100 to"),
    (put("memory.pj_per_byte.value", -1.0), "value -1 is not allowed; give 0 to 1e+06 pJ/byte"),
    (put("memory.ddr_rate.value", 0.001), "memory.ddr_rate: value 0.001 is not allowed; give 100"),
    (put("cpu.pool_rate.value", 0.001), "cpu.pool_rate: value 0.001 is not allowed; give 1 to"),
    (put("dsp.vtcm_bytes.value", 1e300), "dsp.vtcm_bytes: value 1e+300 is not allowed"),
    (put("dsp.clock.nominal.value", 1e-9), "dsp.clock.nominal: value 1e-09 is not allowed"),
    (put("dsp.power_mw.spread", 1e308), "power_mw.spread: 1e+308 is not allowed; input should be"),
    (put("dsp.idle_power_mw.value", 9e5), "idle_power_mw 900000 exceeds power_mw 2660; lower it"),
    (put(f"{PRIME}.cores", 64), f"{PRIME}.cores: 64 is not allowed"),
    (put("fastrpc.channels", 64), "fastrpc.channels: 64 is not allowed"),
    (put(f"{PRIME}.operating_points.rows.0.1", 1e300), "value 1e+300 is not allowed; give 1 to"),
    (put(f"{PRIME}.operating_points.rows.15.0", float("inf")), "inf is not allowed"),
    (put(f"{PRIME}.sustained_mhz.value", 100.0), "below the lowest operating point 844.8 MHz"),
    (put(f"{NONE}.tail.rows.5.1", 1e18), "row [1, 1e+18] is not allowed; give 0 to 2e+06 us"),
    (put("static.1.domain", "phone_idle"), "each may appear once: add their powers"),
    (put("name", "red\x1b[31m"), "use printable characters only"),
    (put("name", "mine * yours"), "has '*'; leave it out"),
    (put("cpu.llc_bytes.source", "a\ud800b"), "cpu.llc_bytes.source"),
]


RPC_CASES = [
    (put(f"{NONE}.null_us.value", 1e300), "null_us: value 1e+300 is not allowed; give 0 to 1e+07"),
    (put(f"{NONE}.per_mib.rows.5.0", float("inf")), "inf is not allowed; input should be a finite"),
    (put(f"{NONE}.per_mib.rows.1.0", 0.2), "value 0.2 is not allowed; give 1 to 1e+14 bytes"),
    (put(f"{NONE}.per_mib.rows.1.0", 9.5), "row [9.5, 24.84]: give whole bytes"),
    (put(f"{NONE}.per_mib.rows.5.1", 1.0), "1 us follows"),
    (put(f"{NONE}.per_mib.rows.5.1", 9e6), "add more than 1 us per byte"),
    (put(f"{NONE}.per_mib.rows.1.1", "9"), "'9' is not allowed; input should be a valid number"),
    (put(f"{NONE}.per_mib.rows.0", [1.0, 0.0]), "it must be [0, 0]: add that row"),
]
"""For a device whose FastRPC latencies are written and not calibrated."""


@pytest.mark.parametrize(("edit", "said"), RPC_CASES)
def test_absurd_latencies_are_refused(
    tmp_path: Path, edit: Callable[[Tree], None], said: str
) -> None:
    tree = yaml.safe_load((FOLDER / "snapdragon-888.yaml").read_text("utf-8"))
    edit(tree)
    assert said in refusal(tmp_path, yaml.safe_dump(tree))


@pytest.mark.parametrize(("edit", "said"), ABSURD_CASES)
def test_absurd_values_are_refused(tmp_path: Path, edit: Callable[[Tree], None], said: str) -> None:
    tree = yaml.safe_load((FOLDER / "snapdragon-865.yaml").read_text("utf-8"))
    edit(tree)
    assert said in refusal(tmp_path, yaml.safe_dump(tree))


def test_the_widest_values_can_be_loaded(tmp_path: Path) -> None:
    tree = yaml.safe_load((FOLDER / "snapdragon-888.yaml").read_text("utf-8"))
    for path, value in (
        ("thermal.ambient_c.value", -40),
        ("memory.pj_per_byte.value", 0),
        ("prepare.prepare_us_fixed.value", 0),
        ("fastrpc.modes.none.null_us.value", 1e7),
        ("cpu.clusters.1.cores", 16),
    ):
        put(path, value)(tree)
    tree["cpu"]["llc_bytes"]["source"] = "two lines,\nwith a no-break\u00a0space"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    assert load_device(path).thermal.ambient_c.value == -40


@pytest.mark.parametrize(("edit", "said"), DEVICE_CASES)
def test_bad_device(tmp_path: Path, edit: Callable[[Tree], None], said: list[str]) -> None:
    tree = yaml.safe_load((FOLDER / "snapdragon-865.yaml").read_text("utf-8"))
    edit(tree)
    message = refusal(tmp_path, yaml.safe_dump(tree))
    assert message.startswith("bad.yaml: ")
    for words in said:
        assert words in message, message


def refusal(folder: Path, text: str) -> str:
    """Return the one line with which a device file of this text is refused."""
    path = folder / "bad.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(DeviceError) as caught:
        load_device(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))
    return message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cpu: [1, 2", "line 1"),
        ("name: a\nname: b\n", "line 2: key 'name' appears twice"),
        ("name: &x a\nsoc: *x\n", "line 2: aliases"),
        ("- 1\n", "is not a table"),
        ("", "None is not a table"),
        ("name: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("? {a: b}\n: 1\n", "unhashable key"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("name: 2001-99-99\n", "line 1: '2001-99-99' is not a valid timestamp; correct it"),
        ("soc: x\nname: 0x_\n", "line 2: '0x_' is not a valid int"),
        ("name: 0b_\n", "'0b_' is not a valid int"),
        ("name: !!int abc\n", "'abc' is not a valid int"),
        ("name: !!int ''\n", "'' is not a valid int"),
        ("name: !!float abc\n", "'abc' is not a valid float"),
        ("name: !!bool foo\n", "'foo' is not a valid bool"),
        ("name: !!timestamp foo\n", "'foo' is not a valid timestamp"),
        ("name: !!map foo\n", "expected a mapping node"),
        ("name: " + "9" * 5000, "is not a valid int"),
        ("name: 0x" + "f" * 5000, "an integer has more than 64 bits"),
        ("#" * (MAX_FILE_BYTES + 1), "at most 262144 bytes are allowed"),
    ],
)
def test_not_a_description_at_all(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(DeviceError, match="UTF-8"):
        load_device(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="No such file"):
        load_device(str(tmp_path / "none.yaml"))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a Unix")
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe.yaml", tmp_path / "zero.yaml"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    for path in (pipe, link, tmp_path):
        with pytest.raises(DeviceError, match=r"not a regular file\); give the path of a file"):
            load_device(path)


def test_a_path_that_cannot_be() -> None:
    with pytest.raises(DeviceError, match=r"'a\\x00b\.yaml': cannot be read"):
        load_device("a\0b.yaml")


def test_a_good_file_of_the_user_loads(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (FOLDER / "laptop.yaml").read_text("utf-8")
    path.write_text(text.replace("name: laptop", "name: mine"), "utf-8")
    mine = load_device(str(path))
    assert mine.name == "mine"
    assert mine.sha256 != load_device("laptop").sha256


def test_errors_of_both_kinds_share_a_base() -> None:
    for load, error in ((load_device, DeviceError), (load_library, LibraryError)):
        with pytest.raises(error, match="unknown"):
            load("nothing")
        assert issubclass(error, DescriptionError)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            put("efficiency.fp32.conv.forward.value", 4.1),
            "value 4.1 is not allowed; give 0.001 to 4",
        ),
        (put("efficiency.fp32.conv.forward.value", 0), "value 0 is not allowed; give 0.001 to 4"),
        (put("launch_us.value", 1e300), "launch_us: value 1e+300 is not allowed; give 0 to 1e+07"),
        (put("efficiency.fp32.conv.forward.unit", "percent"), "'share'"),
        (put("efficiency.fp64", {}), "'fp32', 'fp16' or 'int8'"),
        (drop("efficiency.int8.depthwise"), "conv, depthwise, linear"),
        (put("gather_rate.unit", "GB/s"), "'share' or 'MB/s'"),
        (drop("parallel_efficiency"), "parallel_efficiency is missing"),
        (drop("parallel_efficiency.1"), "must increase from 1"),
        (put("parallel_efficiency", {}), "parallel_efficiency is missing"),
        (put("alu_elements_per_cycle", {}), "at least 1 item"),
        (put("unit_kind", "npu"), "'cpu', 'gpu' or 'dsp'"),
    ],
)
def test_bad_library(tmp_path: Path, edit: Callable[[Tree], None], said: str) -> None:
    tree = yaml.safe_load((LIBRARIES / "mnn.yaml").read_text("utf-8"))
    edit(tree)
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    with pytest.raises(LibraryError) as caught:
        load_library(path)
    assert said in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_kernel_of_a_dsp_exceeds_the_peak(tmp_path: Path) -> None:
    tree = yaml.safe_load((LIBRARIES / "hexagon_nn.yaml").read_text("utf-8"))
    put("efficiency.int8.conv.weight_grad.calibrated.terms", {"dsp-networks/rate_gmacs": 0.002})(
        tree
    )
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    with pytest.raises(LibraryError, match=r"weight_grad 1\.\d+ exceeds the peak of a context"):
        load_library(path)
