"""The sample store: nothing finished is lost, nothing half-written is read, mixing is refused."""

import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from cost_models.lines import LARGEST_FILE
from cost_models.samples import FORMAT, SampleError
from hw_bridge.samples import Fingerprint, Sample, SampleStore, collect, read_samples

HERE = Fingerprint("host", {"cpu": "model 1", "governor": "performance"})
THERE = Fingerprint("host", {"cpu": "model 2", "governor": "performance"})

OPENED = [{"schema": "mandheling-samples/1"}, {"fingerprint": HERE.document()}]
GOOD = Sample("a", "task", "ns", (1,)).document()
CONFIG = {"macs": 5, "name": "é"}


def a_sample(key: str, *raw: int) -> Sample:
    return Sample(key, "task", "ns", raw or (3, 1, 2), CONFIG, {"mc": 40_000})


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with SampleStore.open(path, HERE) as store:
        store.add(a_sample("a"))
        store.add(a_sample("b", 7))
        assert store.done("a")
        assert not store.done("c")
        assert store.samples == read_samples(path).samples
    content = read_samples(path)
    assert [s.key for s in content.samples] == ["a", "b"]
    assert content.samples[0].raw == (3, 1, 2)
    assert content.samples[0].median == 2
    assert content.samples[0].config == CONFIG
    assert {s.fingerprint for s in content.samples} == {HERE.id}
    assert content.fingerprints == (HERE,)


def test_every_cut_of_the_file_opens_again_without_losing_a_whole_sample(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with SampleStore.open(path, HERE) as store:
        for key in "abc":
            store.add(a_sample(key))
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        with SampleStore.open(path, HERE) as store:
            assert len(store.samples) == max(0, whole - 2)
            assert store.torn_bytes == cut - ([0, *ends][whole])
            collect(store, [(k, CONFIG) for k in "abc"], lambda key, config: a_sample(key))
        assert sorted(s.key for s in read_samples(path).samples) == ["a", "b", "c"]


@pytest.mark.parametrize("device", ["fifo", "/dev/zero", "/dev/full"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, device: str) -> None:
    path = tmp_path / "fifo" if device == "fifo" else Path(device)
    if device == "fifo":
        os.mkfifo(path)
    with pytest.raises(SampleError, match="regular file; give"):
        SampleStore.open(path, HERE)
    with pytest.raises(SampleError, match="not a regular file"):
        read_samples(path)


def test_a_file_larger_than_any_campaign_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with SampleStore.open(path, HERE):
        pass
    os.truncate(path, LARGEST_FILE + 1)  # a hole: nothing is stored
    for use in (read_samples, lambda path: SampleStore.open(path, HERE)):
        with pytest.raises(SampleError, match=f"at most {LARGEST_FILE} bytes"):
            use(path)


@pytest.mark.parametrize("content", [b"notes\n", b'{"crc":"no"', b"\x00" * 9])
def test_another_kind_of_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(SampleError, match="is no file of samples"):
        SampleStore.open(path, HERE)
    assert path.read_bytes() == content


def _sample_for_ever(path: Path) -> None:
    with SampleStore.open(path, HERE) as store:
        for k in range(10**9):
            store.add(a_sample(f"{len(store.samples)}/{k}"))


def test_kill_9_while_sampling_loses_nothing_that_was_added(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    known = 0
    for round_ in range(5):
        process = multiprocessing.get_context("spawn").Process(target=_sample_for_ever, args=[path])
        process.start()
        grown = (path.stat().st_size if path.exists() else 0) + 2000
        while not path.exists() or path.stat().st_size < grown:
            time.sleep(0.002)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = len(read_samples(path).samples)
        assert found > known, round_
        known = found


def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with SampleStore.open(path, HERE) as store:
        for key in "abc":
            store.add(a_sample(key))
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"key":"b"', b'"key":"x"'))
    with pytest.raises(SampleError, match=r"line 4: damaged \(its checksum does not fit\)"):
        read_samples(path)


def test_a_store_of_another_machine_is_refused_unless_mixing_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with SampleStore.open(path, HERE) as store:
        store.add(a_sample("a"))
    with pytest.raises(SampleError, match=r"something else \(cpu: model 2, not model 1\); each"):
        SampleStore.open(path, THERE)
    with SampleStore.open(path, THERE, mixed=True) as store:
        store.add(a_sample("b"))
    with SampleStore.open(path, HERE) as store:
        store.add(a_sample("c"))
    assert [s.fingerprint for s in read_samples(path).samples] == [HERE.id, THERE.id, HERE.id]


def test_only_one_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with (
        SampleStore.open(path, HERE),
        pytest.raises(SampleError, match="another process is writing samples"),
    ):
        SampleStore.open(path, HERE)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with SampleStore.open(path, HERE) as store:
        store.add(a_sample("a"))
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
        try:
            with pytest.raises(SampleError, match="what was written before is kept"):
                store.add(a_sample("b"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        assert path.read_bytes() == before
        store.add(a_sample("b"))
    assert [s.key for s in read_samples(path).samples] == ["a", "b"]


def test_collecting_resumes_in_the_same_order(tmp_path: Path) -> None:
    wanted = [(f"k{i}", CONFIG) for i in range(20)]
    order: list[str] = []

    def measure(key: str, config: object) -> Sample:
        if len(order) == 7:
            raise KeyboardInterrupt
        order.append(key)
        return a_sample(key)

    path, steps = tmp_path / "s.jsonl", []
    with SampleStore.open(path, HERE) as store, pytest.raises(KeyboardInterrupt):
        collect(store, wanted, measure, seed=3)
    first, order = order, []
    with SampleStore.open(path, HERE) as store, pytest.raises(KeyboardInterrupt):
        collect(store, wanted, measure, seed=3)
    second, order = order, []
    with SampleStore.open(path, HERE) as store:
        rest = collect(store, wanted, measure, seed=3, advance=lambda: steps.append(1))
    assert rest == 6
    assert len(steps) == 20
    whole: list[str] = []
    with SampleStore.open(tmp_path / "t.jsonl", HERE) as store:
        collect(store, wanted, lambda key, config: whole.append(key) or a_sample(key), seed=3)
    assert [*first, *second, *order] == whole != sorted(whole)


def test_a_sample_taken_otherwise_is_not_passed_off_as_wanted(tmp_path: Path) -> None:
    path, asked = tmp_path / "s.jsonl", []
    with SampleStore.open(path, HERE) as store:
        store.add(a_sample("a"))
    for changed, said in (
        ({**CONFIG, "macs": 6}, "macs 5, and is wanted with 6"),
        ({**CONFIG, "cpu": 7}, "cpu None, and is wanted with 7"),
    ):
        wanted = [("b", CONFIG), ("a", changed)]
        with SampleStore.open(path, HERE) as store, pytest.raises(SampleError, match=said):
            collect(store, wanted, lambda key, config: asked.append(key) or a_sample(key))
    assert asked == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": ""}, r"sample.key is ''"),
        ({"unit": "s"}, r"unit is 's'; allowed: ns, packets"),
        ({"raw": ()}, r"raw is empty"),
        ({"raw": (1.5,)}, r"raw holds 1.5"),
        ({"raw": (-1,)}, r"raw holds -1"),
        ({"raw": (True,)}, r"raw holds True"),
        ({"config": 3}, r"config is 3"),
    ],
)
def test_no_bad_sample_can_be_made(fields: dict[str, object], message: str) -> None:
    good = {"key": "a", "kind": "task", "unit": "ns", "raw": (1,)}
    with pytest.raises(SampleError, match=message):
        Sample(**{**good, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"schema": "mandheling-samples/9"}], "line 1: 'mandheling-samples/9'; this version read"),
        ([{"schema": "mandheling-samples/1"}, {"sample": {}}], "line 2: .*a fingerprint must come"),
        (
            [{"schema": "mandheling-samples/1"}, {"fingerprint": {"backend": "host"}}],
            "line 2: fingerprint.facts is missing",
        ),
        ([*OPENED, {"sample": 5}], "line 3: sample is 5; give a mapping of key, kind"),
        ([*OPENED, {"sample": {"key": "a"}}], "line 3: sample.kind is missing"),
        ([*OPENED, {"sample": {**GOOD, "raw": 7}}], "line 3: sample.raw is 7; give a list"),
        (
            [*OPENED, {"sample": {**GOOD, "fingerprint": "x"}}],
            r"line 3: sample: unknown field 'fingerprint' \(value 'x'\); allowed: key, kind",
        ),
        ([*OPENED, {"sample": {**GOOD, "key": "a\n"}}], r"sample.key is 'a\\n'; give a printable"),
    ],
)
def test_files_that_are_no_stores_are_refused(
    tmp_path: Path, lines: list[dict[str, object]], message: str
) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"".join(map(FORMAT.line, lines)))
    with pytest.raises(SampleError, match=message):
        read_samples(path)


def test_no_number_is_written_that_json_lacks(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with SampleStore.open(path, HERE) as store:
        with pytest.raises(SampleError, match="no JSON"):
            store.add(Sample("a", "task", "ns", (1,), {"x": float("nan")}))
        with pytest.raises(SampleError, match="'b' was asked for and 'c' came back"):
            collect(store, [("b", {})], lambda key, config: a_sample("c"))
        assert store.samples == ()
