"""The AArch64 back-end: its code for Arm is read, run under an emulator, and run spelled out.

Any machine emits the tile's code for Arm and reads it, and runs everything around the tile with
the instruction spelled out. With a cross linker and an emulator it runs the Arm code itself:
``pip install 'ziglang>=0.13'`` and, on Debian, ``apt-get install qemu-user``.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding, ir
from numba.core.registry import cpu_target

from kernels.gemm import GemmError, backends, dotprod

TRIPLE = "aarch64-unknown-linux-gnu"
BASELINE = ("generic", "+neon,+dotprod")
PHONES = ("cortex-a55", "cortex-a76", "cortex-a510", "cortex-a710", "cortex-x2", "cortex-x4")
OTHERS = ("neoverse-n1", "neoverse-n2", "neoverse-v1", "neoverse-v2", "ampere1", "apple-m1")
CPUS = [BASELINE, *((cpu, "") for cpu in PHONES + OTHERS)]
SPILLED = {"neoverse-n1": 1}
"""Sums that LLVM 22 keeps on the stack for a while: its schedule for this core wants a register
more than there are. They cost 4 of 119 instructions."""
EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
LINKER_HINT = "pip install 'ziglang>=0.13'"
EMULATOR_HINT = "apt-get install qemu-user"
GUARD = 77

HARNESS = Path(__file__).with_name("gemm_dotprod_main.c")


def tile_module() -> ir.Module:
    """``tile(a, stride, last, panel, chunks, fresh, out, out_stride)`` for C, with ``sdot``."""
    module = ir.Module("tile")
    module.triple = TRIPLE
    byte, word, size = ir.IntType(8).as_pointer(), ir.IntType(32).as_pointer(), ir.IntType(64)
    kind = ir.FunctionType(ir.VoidType(), [byte, size, size, byte, size, size, word, size])
    function = ir.Function(module, kind, "tile")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    dotprod.emit_tile(builder, dotprod.sdot, *function.args)
    builder.ret_void()
    return module


def machine_code(cpu: str, features: str) -> tuple[str, bytes]:
    """Assembly and object file of the tile, through the passes that Numba runs as well."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = binding.parse_assembly(str(tile_module()))
    module.verify()
    target = binding.Target.from_triple(TRIPLE)
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3)
    passes = binding.create_pass_builder(
        machine, binding.create_pipeline_tuning_options(speed_level=3)
    )
    passes.getModulePassManager().run(module, passes)
    return machine.emit_assembly(module), machine.emit_object(module)


def loops(assembly: str) -> list[list[str]]:
    """Instructions of each innermost loop: from a label to the branch back to it."""
    lines = [line.split("//")[0].strip() for line in assembly.splitlines()]
    labels = {line[:-1]: n for n, line in enumerate(lines) if line.endswith(":")}
    found = []
    for n, line in enumerate(lines):
        jump = re.fullmatch(r"(?:b\.\w+|cbnz\s+\w+,|b)\s+(\S+)", line)
        if jump and labels.get(jump[1], n) < n:
            inside = lines[labels[jump[1]] + 1 : n + 1]
            found.append([text for text in inside if text and not text.startswith(".")])
    return found


@pytest.mark.parametrize(("cpu", "features"), CPUS, ids=[cpu for cpu, _ in CPUS])
def test_the_loop_is_sdot_on_registers(cpu: str, features: str) -> None:
    """96 products per chunk, 22 vectors read for them, and nothing moved or spilled."""
    assembly, _ = machine_code(cpu, features)
    (loop,) = loops(assembly)
    dots = [line for line in loop if line.startswith("sdot")]
    sums, rows, columns = dotprod.TILE_ROWS * dotprod.WIDTH // 4, dotprod.TILE_ROWS, dotprod.WIDTH
    assert len(dots) == sums * dotprod.CHUNK // 4 == 96
    assert all(re.search(r"v\d+\.16b, v\d+\.4b\[[0-3]\]$", line) for line in dots), (
        "a word is copied"
    )
    rest = [line for line in loop if not line.startswith("sdot")]
    stack = [line for line in rest if "[sp" in line]
    assert len(stack) == 4 * SPILLED.get(cpu, 0), stack
    reads = [line for line in rest if re.match(r"ld(r|p|ur)\tq", line) and line not in stack]
    assert sum(len(re.findall(r"\bq\d+", line)) for line in reads) == rows + columns
    counting = [line for line in rest if line not in stack and line not in reads]
    assert all(re.match(r"(add|lsl|cmp|b\.lt)\t[^vqds]*$", line) for line in counting), counting
    assert len(counting) <= 5


def test_loops_are_found_and_spills_seen() -> None:
    """The reader of assembly itself: a loop with a spill in it, after code that is not one."""
    inside = ["sdot\tv0.4s, v1.16b, v2.4b[0]", "str\tq0, [sp]", "b.lt\t.L1"]
    text = "\n\t".join(["f:", "b\t.L2", "\n.L1:", *inside, "\n.L2:", "ret"])
    assert loops(text) == [inside]


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "usable"),
    [
        (TRIPLE, "neoverse-n1", "", True),
        (TRIPLE, "cortex-a55", "", True),
        (TRIPLE, "cortex-a72", "", False),
        (TRIPLE, "generic", "", False),
        (TRIPLE, "generic", "+neon,+dotprod", True),
        (TRIPLE, "neoverse-n1", "-dotprod", False),
        ("arm64-apple-darwin23.0.0", "apple-m1", "", True),
        ("x86_64-unknown-linux-gnu", "znver4", "", False),
    ],
)
def test_a_cpu_with_dot_products_is_told_from_one_without(
    triple: str, cpu: str, features: str, usable: bool
) -> None:
    assert dotprod.compiles_sdot(triple, cpu, features) == usable


@pytest.mark.parametrize(("cpu", "usable"), [("neoverse-n1", True), ("cortex-a72", False)])
def test_an_arm_with_dot_products_takes_the_back_end(
    monkeypatch: pytest.MonkeyPatch, cpu: str, usable: bool
) -> None:
    monkeypatch.delenv(backends.ENVIRONMENT, raising=False)
    codegen = type(cpu_target.target_context.codegen())
    monkeypatch.setattr(codegen, "magic_tuple", lambda _: (TRIPLE, cpu, "+neon,+crc"))
    backends._cpu_features.cache_clear()
    backends._fastest.cache_clear()
    try:
        assert backends.cpu_has("neon")
        assert backends.cpu_has("dotprod") == usable
        if usable:
            assert backends.lacking("dotprod") is None
            assert backends.chosen(None) == "dotprod"
        else:
            assert backends.chosen(None) == "blas"
            with pytest.raises(GemmError, match="'dotprod', which needs the CPU features dotprod"):
                backends.chosen("dotprod")
    finally:
        monkeypatch.undo()
        backends._cpu_features.cache_clear()
        backends._fastest.cache_clear()


def matrix(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Full-range int8; one in three of extremes only, where sums are largest."""
    if rng.integers(3) == 0:
        return rng.choice(np.array([-128, 127], np.int8), (rows, columns))
    return rng.integers(-128, 128, (rows, columns)).astype(np.int8)


def reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.astype(np.int64) @ b.astype(np.int64)


@settings(deadline=None)  # the first example compiles
@given(st.integers(1, 80), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_packing_puts_four_of_k_side_by_side(depth: int, columns: int, seed: int) -> None:
    b = matrix(np.random.default_rng(seed), depth, columns)
    panels = dotprod.pack(b, 1)
    deep, wide = -(-len(b) // 16) * 16, -(-columns // 16) * 16
    padded = np.zeros((deep, wide), np.int8)
    padded[: len(b), :columns] = b
    assert panels.shape == (wide // 16, deep // 4, 16, 4)
    assert np.array_equal(panels.transpose(1, 3, 0, 2).reshape(deep, wide), padded)


def check_multiply(rng: np.random.Generator, rows: int, depth: int, columns: int) -> None:
    a, b = matrix(rng, rows, depth), matrix(rng, depth, columns)
    want = reference(a, b)
    around = np.full((rows + 2, columns), GUARD, np.int32)
    for threads in (1, 2):
        dotprod.multiply(a, dotprod.pack(b, threads), around[1:-1], threads)
        assert np.array_equal(around[1:-1], want), (rows, depth, columns, threads)
        assert (around[[0, -1]] == GUARD).all()


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 80), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_the_product_equals_the_reference(rows: int, depth: int, columns: int, seed: int) -> None:
    check_multiply(np.random.default_rng(seed), rows, depth, columns)


@pytest.mark.parametrize("depth", [1, 15, 16, 17, 1023, 1024, 1025, 2049, 4608])
def test_the_product_equals_the_reference_around_blocks(depth: int) -> None:
    rng = np.random.default_rng(depth)
    for rows, columns in ((1, 1), (5, 15), (6, 16), (7, 17), (95, 3), (97, 33), (200, 16)):
        check_multiply(rng, rows, depth, columns)


def test_threads_share_large_products() -> None:
    rng = np.random.default_rng(8)
    a, b = matrix(rng, 1001, 1030), matrix(rng, 1030, 531)
    want, out = reference(a, b), np.empty((1001, 531), np.int32)
    for threads in (1, 2, 3, 40):
        out[:] = GUARD
        dotprod.multiply(a, dotprod.pack(b, threads), out, threads)
        assert np.array_equal(out, want)


def test_no_tile_reads_or_writes_outside_its_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops around the tile, interpreted, with a tile that checks every place."""
    seen = 0

    def tile(a, a_at, stride, last, panels, panel_at, chunks, fresh, out, out_at, out_stride):
        nonlocal seen
        seen += 1
        deep = 16 * chunks
        assert 0 <= last < 6
        assert a_at + last * stride + deep <= a.size
        assert panel_at + 16 * deep <= panels.size
        assert out_at + last * out_stride + 16 <= out.size
        columns = panels[panel_at:][: 16 * deep].reshape(-1, 16, 4).transpose(0, 2, 1)
        for r in range(last + 1):
            held = out[out_at + r * out_stride :][:16]
            row = a[a_at + r * stride :][:deep]
            held[:] = (0 if fresh else held) + reference(row, columns.reshape(deep, 16))

    monkeypatch.setattr(dotprod, "_rows", dotprod._rows.py_func)
    monkeypatch.setattr(dotprod, "_tile", tile)
    rng = np.random.default_rng(9)
    for rows, depth, columns in ((1, 1, 1), (20, 1, 5), (7, 17, 33), (13, 5, 16), (3, 1041, 17)):
        check_multiply(rng, rows, depth, columns)
    assert seen > 30


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Command that runs the tile's object file, linked with a small C main, on an emulated Arm."""
    if find_spec("ziglang") is None:
        pytest.skip(f"the code for Arm is not run: no cross linker; {LINKER_HINT}")
    emulator = next(filter(None, map(shutil.which, EMULATORS)), None)
    if emulator is None:
        pytest.skip(f"the code for Arm is not run: no {EMULATORS[0]}; {EMULATOR_HINT}")
    folder = tmp_path_factory.mktemp("dotprod")
    (folder / "tile.o").write_bytes(machine_code(*BASELINE)[1])
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl"]
    options = ["-O1", "-ffreestanding", "-nostdlib", "-static", "-o", "run"]
    linked = subprocess.run(
        [*command, *options, str(HARNESS), "tile.o"],
        cwd=folder, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert linked.returncode == 0, linked.stderr[-2000:]
    return [emulator, "-cpu", "max", str(folder / "run")]


def test_the_code_for_arm_gives_the_same_bits_under_an_emulator(emulated: list[str]) -> None:
    rng = np.random.default_rng(10)
    sent, wanted = [], []
    for case in range(300):
        rows, columns = (int(n) for n in rng.integers(1, (40, 60)))
        depth = int(rng.choice([1, 3, 15, 16, 17, 27, 64, 147, 576, 1024, 1025, 2100]))
        a, b = matrix(rng, rows, depth), matrix(rng, depth, columns)
        if case < 4:
            a[:], b[:] = (-128, 127)[case % 2], (-128, 127)[case // 2]
        panels = dotprod.pack(b, 1)
        deep, wide = 4 * panels.shape[1], 16 * panels.shape[0]
        computed = max(0, rows + 1 - -(-deep // depth))
        if computed == 0 or case % 3 == 0:  # rows padded to whole chunks, as the last ones are
            a = np.pad(a, ((0, 0), (0, deep - depth)))
            computed = rows
        sent.append(struct.pack("6q", a.size, computed, a.shape[1], deep, wide, dotprod.DEPTH))
        sent += [a.tobytes(), panels.tobytes()]
        want = np.full((computed + 2, wide), GUARD, np.int32)
        want[1:-1] = 0
        want[1:-1, :columns] = reference(a[:computed, :depth], b)
        wanted.append(want)
    done = subprocess.run(emulated, input=b"".join(sent), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]
    got = np.frombuffer(done.stdout, np.int32)
    assert np.array_equal(got, np.concatenate([want.ravel() for want in wanted]))
