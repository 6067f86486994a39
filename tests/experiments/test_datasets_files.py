"""CIFAR-10 and IDX files: sound ones are read as they are, unsound ones refused by name."""

from __future__ import annotations

import gzip
import pickle
import struct
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.datasets import DatasetError, idx, load_dataset, load_splits
from experiments.datasets import cifar10 as cifar
from experiments.datasets.idx import idx_array

RECORDS = 12


def cifar_records(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (RECORDS, 3072), np.uint8), rng.integers(0, 10, RECORDS)


def write_binary(folder: Path) -> None:
    folder.mkdir()
    for seed, name in enumerate((*cifar.TRAIN, cifar.TEST)):
        pixels, labels = cifar_records(seed)
        table = np.concatenate([labels[:, None].astype(np.uint8), pixels], axis=1)
        (folder / f"{name}.bin").write_bytes(table.tobytes())


def write_python(folder: Path, protocol: int = 2, as_bytes: bool = True) -> None:
    folder.mkdir()
    for seed, name in enumerate((*cifar.TRAIN, cifar.TEST)):
        pixels, labels = cifar_records(seed)
        batch = {"data": pixels, "labels": labels.tolist(), "filenames": ["a.png"] * RECORDS}
        keyed: dict[Any, Any] = {k.encode(): v for k, v in batch.items()} if as_bytes else {**batch}
        (folder / name).write_bytes(pickle.dumps(keyed, protocol=protocol))


def test_cifar_binary_is_turned_channels_last(tmp_path: Path) -> None:
    write_binary(tmp_path / "cifar-10-batches-bin")
    parts = cifar.read(tmp_path, RECORDS)
    assert parts.train.images.shape == (5 * RECORDS, 32, 32, 3)
    assert parts.test.images.shape == (RECORDS, 32, 32, 3)
    for seed in range(5):
        pixels, labels = cifar_records(seed)
        own = slice(seed * RECORDS, (seed + 1) * RECORDS)
        assert np.array_equal(parts.train.labels[own], labels)
        for channel, row, column in ((0, 0, 0), (1, 31, 2), (2, 5, 31)):
            flat = pixels[:, channel * 1024 + row * 32 + column]
            assert np.array_equal(parts.train.images[own, row, column, channel], flat)
    written = (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").read_bytes()
    assert parts.sha256["test_batch.bin"] == sha256(written).hexdigest()
    assert parts.official is False


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("as_bytes", [True, False])
def test_cifar_python_layout_holds_the_same(tmp_path: Path, protocol: int, as_bytes: bool) -> None:
    write_binary(tmp_path / "bin")
    write_python(tmp_path / "cifar-10-batches-py", protocol, as_bytes)
    binary, plain = cifar.read(tmp_path / "bin", RECORDS), cifar.read(tmp_path, RECORDS)
    for one, other in ((binary.train, plain.train), (binary.test, plain.test)):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)


@pytest.mark.parametrize("length", [0, 1, RECORDS * 3073 - 3073, RECORDS * 3073 - 1])
def test_a_truncated_cifar_file_gives_both_sizes(tmp_path: Path, length: int) -> None:
    write_binary(tmp_path / "bin")
    path = tmp_path / "bin" / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DatasetError, match=f"truncated: {RECORDS * 3073:,} bytes .* {length:,} "):
        cifar.read(tmp_path / "bin", RECORDS)


def test_other_faults_of_cifar_files(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    write_binary(folder)
    path = folder / "data_batch_2.bin"
    content = bytearray(path.read_bytes())
    path.write_bytes(content + b"\0")
    with pytest.raises(DatasetError, match="too long"):
        cifar.read(folder, RECORDS)
    content[3 * 3073] = 10
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"data_batch_2.bin: label 10 of image 3 .* 0 to 9"):
        cifar.read(folder, RECORDS)
    path.unlink()
    with pytest.raises(DatasetError, match=r"no data_batch_2.bin in .*cs.toronto.edu"):
        cifar.read(folder, RECORDS)


BATCH_FAULTS: list[tuple[object, str]] = [
    ([1, 2], "holds a list"),
    ({b"labels": []}, "no 'data'"),
    ({b"data": np.zeros((RECORDS, 3072), np.uint8)}, "no 'labels'"),
    ({b"data": np.zeros((RECORDS, 3071), np.uint8), b"labels": []}, "3071"),
    ({b"data": b"abc", b"labels": []}, "data is b'abc'"),
    ({b"data": np.zeros((RECORDS, 3072), np.uint8), b"labels": [0] * 3}, "3 labels for 12"),
    (
        {b"data": np.zeros((RECORDS, 3072), np.uint8), b"labels": [-1] * RECORDS},
        "label -1 of image 0 is out of range",
    ),
    (
        {b"data": np.zeros((RECORDS, 3072), np.uint8), b"labels": [2**70] * RECORDS},
        "label 1180591620717411303424 of",
    ),
    ({b"data": np.zeros((RECORDS, 3072), np.uint8), b"labels": 3}, "labels is 3"),
    ({b"data": np.zeros((RECORDS, 3072), np.uint8), b"labels": [True] * RECORDS}, "label True of"),
    (
        {b"data": np.zeros((RECORDS, 3072), np.uint8), b"labels": ["3"] * RECORDS},
        "label '3' of image 0 .* int",
    ),
]


@pytest.mark.parametrize(("batch", "message"), BATCH_FAULTS, ids=[m for _, m in BATCH_FAULTS])
def test_faults_of_cifar_batches_in_python(tmp_path: Path, batch: object, message: str) -> None:
    write_python(tmp_path / "py")
    (tmp_path / "py" / "data_batch_3").write_bytes(pickle.dumps(batch))
    with pytest.raises(DatasetError, match=f"data_batch_3: .*{message}"):
        cifar.read(tmp_path / "py", RECORDS)


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, split: str, count: int, packed: bool, before: str = "") -> None:
    rng = np.random.default_rng(count)
    arrays = {
        "images-idx3": rng.integers(0, 256, (count, 28, 28), np.uint8),
        "labels-idx1": rng.integers(0, 10, count, np.uint8),
    }
    for kind, array in arrays.items():
        content = idx_bytes(array)
        path = folder / f"{before}{split}-{kind}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("prefixed", [True, False])
def test_idx_data_sets(tmp_path: Path, name: str, packed: bool, prefixed: bool) -> None:
    before = f"{name}-" if prefixed else ""
    write_idx(tmp_path, "train", 30, packed, before)
    write_idx(tmp_path, "t10k", 20, packed, before)
    train, test = load_splits(name, tmp_path)
    assert (train.images.shape, test.images.shape) == ((30, 28, 28, 1), (20, 28, 28, 1))
    rng = np.random.default_rng(30)
    assert np.array_equal(train.images[..., 0], rng.integers(0, 256, (30, 28, 28), np.uint8))
    assert np.array_equal(train.labels, rng.integers(0, 10, 30, np.uint8))
    assert (train.mean, train.std) == (test.mean, test.std)
    assert len(train.sha256) == 4
    assert train.mean[0] == pytest.approx(float(train.images.mean()))
    assert train.std[0] == pytest.approx(float(train.images.std()))


def test_whether_files_are_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "t10k"):
        write_idx(tmp_path, split, 20, packed=False, before="fashion-mnist-")
    assert load_dataset("fashion-mnist", tmp_path).official is None  # published are only the .gz
    sums = {
        path.name.removeprefix("fashion-mnist-"): md5(path.read_bytes()).hexdigest()
        for path in tmp_path.iterdir()
    }
    monkeypatch.setitem(idx.MD5, "fashion-mnist", sums)
    assert load_dataset("fashion-mnist", tmp_path).official is True
    monkeypatch.setitem(idx.MD5, "fashion-mnist", sums | {"t10k-labels-idx1-ubyte": "0"})
    assert load_dataset("fashion-mnist", tmp_path).official is False


def test_the_test_file_alone_can_be_shared_out(tmp_path: Path) -> None:
    write_idx(tmp_path, "t10k", 100, packed=True)
    with pytest.raises(DatasetError, match=r"only the t10k files .*split_of_test=\(8000, 2000\)"):
        load_dataset("mnist", tmp_path)
    train, test = load_splits("mnist", tmp_path, split_of_test=(70, 20))
    again = load_dataset("mnist", tmp_path, "test", split_of_test=(70, 20))
    other = load_dataset("mnist", tmp_path, "test", split_of_test=(70, 20), seed=1)
    assert (len(train), len(test)) == (70, 20)
    assert test.digest() == again.digest() != other.digest()
    images = {image.tobytes() for image in (*train.images, *test.images)}
    assert len(images) == 90
    for wrong in ((0, 10), (90, 11), (10, 0)):
        with pytest.raises(DatasetError, match="split_of_test"):
            load_dataset("mnist", tmp_path, split_of_test=wrong)


@given(st.integers(1, 30), st.booleans(), st.data())
def test_idx_arrays_of_any_damage(count: int, packed: bool, data: st.DataObject) -> None:
    array = np.arange(count * 6, dtype=np.uint64).astype(np.uint8).reshape(count, 2, 3)
    whole = idx_bytes(array)

    def stored(content: bytes) -> bytes:
        return gzip.compress(content, mtime=0) if packed else content

    assert np.array_equal(idx_array(stored(whole), Path("f"), (2, 3)), array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DatasetError, match=f"truncated: .* {cut} found"):
        idx_array(stored(whole[:cut]), Path("f"), (2, 3))
    with pytest.raises(DatasetError, match="too long"):
        idx_array(stored(whole + b"\0"), Path("f"), (2, 3))


def test_other_faults_of_idx_files(tmp_path: Path) -> None:
    good = idx_bytes(np.zeros((3, 28, 28), np.uint8))
    faults = {
        "begins with 0x00000801; .* begins with 0x00000803": idx_bytes(np.zeros(99, np.uint8)),
        r"dimensions \(3, 28, 27\)": idx_bytes(np.zeros((3, 28, 27), np.uint8)),
        r"dimensions \(4294967295, 28, 28\)": good[:4] + b"\xff" * 4 + good[8:],
        "damaged gzip": gzip.compress(good)[:-5],
        "f: truncated": b"",
    }
    for message, content in faults.items():
        with pytest.raises(DatasetError, match=message):
            idx_array(content, Path("f"), (28, 28))
    packed = bytearray(gzip.compress(good))
    packed[-6] ^= 1  # the checksum at the end of the file
    with pytest.raises(DatasetError, match="damaged gzip"):
        idx_array(bytes(packed), Path("f"), (28, 28))
    write_idx(tmp_path, "train", 30, packed=False)
    write_idx(tmp_path, "t10k", 20, packed=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(29, np.uint8)))
    with pytest.raises(DatasetError, match="29 labels for 30 images"):
        load_dataset("mnist", tmp_path)
    labels.write_bytes(idx_bytes(np.full(30, 11, np.uint8)))
    with pytest.raises(DatasetError, match="label 11 of image 0"):
        load_dataset("mnist", tmp_path)
    labels.unlink()
    with pytest.raises(DatasetError, match="no train-images-idx3-ubyte or train-labels"):
        load_dataset("mnist", tmp_path)


def test_no_folder_says_what_is_wanted_and_from_where(tmp_path: Path) -> None:
    for name in ("cifar10", "mnist", "fashion-mnist", "femnist"):
        with pytest.raises(DatasetError, match=f"{name}: no folder given; .*https://"):
            load_dataset(name)
        with pytest.raises(DatasetError, match="is not a folder"):
            load_dataset(name, tmp_path / "nowhere")
        with pytest.raises(DatasetError, match=f"{name}: no .* in .*https://"):
            load_dataset(name, tmp_path)


def test_a_folder_is_named_by_a_text_or_a_path() -> None:
    """An empty name would be the folder that the command is run in."""
    for name in ("cifar10", "mnist", "femnist"):
        for folder, words in (
            ("", "no folder given"),
            (3, "folder is 3"),
            (b"data", "folder is b'data'"),
            ("a" * 5000, "File name too long"),
            ("a\0b", "is not a folder"),
            ("\udcff", "is not a folder"),
        ):
            with pytest.raises(DatasetError, match=f"{name}: .*{words}; give the folder"):
                load_dataset(name, folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("python", [True, False])
def test_what_stands_in_the_place_of_a_file_is_told(tmp_path: Path, python: bool) -> None:
    (write_python if python else write_binary)(tmp_path / "cifar")
    path = tmp_path / "cifar" / ("data_batch_2" if python else "data_batch_2.bin")
    path.unlink()
    path.mkdir()
    with pytest.raises(DatasetError, match=r"data_batch_2.*: is no file, but a folder or a device"):
        cifar.read(tmp_path / "cifar", RECORDS)
    path.rmdir()
    path.symlink_to("/dev/zero")
    with pytest.raises(DatasetError, match="is no file, but a folder or a device; give"):
        cifar.read(tmp_path / "cifar", RECORDS)


def test_files_of_gigabytes_are_not_read(tmp_path: Path) -> None:
    write_python(tmp_path / "py")
    with (tmp_path / "py" / "data_batch_2").open("r+b") as file:
        file.truncate((1 << 28) + 1)  # a hole: takes no room
    with pytest.raises(DatasetError, match=r"has 268,435,457 bytes; up to 268,435,456 are read"):
        cifar.read(tmp_path / "py", RECORDS)
    write_idx(tmp_path, "train", 30, packed=False)
    write_idx(tmp_path, "t10k", 20, packed=False)
    with (tmp_path / "train-labels-idx1-ubyte").open("r+b") as file:
        file.truncate((1 << 31) + 1)
    with pytest.raises(DatasetError, match=r"has 2,147,483,649 bytes; up to 2,147,483,648"):
        load_dataset("mnist", tmp_path)


def test_bytes_after_the_end_of_a_gzip_are_refused() -> None:
    packed = gzip.compress(idx_bytes(np.zeros((3, 28, 28), np.uint8)))
    for tail, message in ((b"junk", "damaged gzip"), (packed, "too long")):
        with pytest.raises(DatasetError, match=message):
            idx_array(packed + tail, Path("f"), (28, 28))
    for head in (packed[:2], packed[:-1], b"\x1f\x8b\x08\xff" + b"\xff" * 40):
        with pytest.raises(DatasetError, match="damaged gzip"):
            idx_array(head, Path("f"), (28, 28))
    with pytest.raises(DatasetError, match=r"dimensions \(0, 28, 28\)"):
        idx_array(idx_bytes(np.zeros((0, 28, 28), np.uint8)), Path("f"), (28, 28))
