"""Tables of measured numbers are read strictly: a slip names file, line, field and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from cost_models.fitting import CalibrationError, Schema, read_table

SCHEMA = Schema("ms", {"network": ("lenet", "vgg11")}, {"batch": (1, 64)})
HEADER = "name,network,batch,value,unit,conditions,source,mark"
GOOD = 'a,lenet,1,2.5,ms,"cold, idle",somewhere,derived'


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_table_is_read_as_columns(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, HEADER, GOOD, GOOD.replace("a,", "b,", 1)), SCHEMA)
    assert table.names.tolist() == ["a", "b"]
    assert table.values.tolist() == [2.5, 2.5]
    assert table.labels["network"].tolist() == ["lenet", "lenet"]
    assert table.numbers["batch"].tolist() == [1.0, 1.0]
    assert len(table.sha256) == 64


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD.replace(",ms,", ",s,"), r"rows.csv: line 2: unit: 's' is not allowed; .*'ms'; conv"),
        (GOOD.replace("2.5", "nan"), r"line 2: value: 'nan' is not allowed; give a number from"),
        (GOOD.replace("2.5", "inf"), r"line 2: value: 'inf' is not allowed"),
        (GOOD.replace("2.5", "-1"), r"line 2: value: '-1' is not allowed"),
        (GOOD.replace("2.5", "2,5"), r"line 2: has 9 of 8 fields"),
        ("a,lenet,1,2.5,ms", r"line 2: has 5 of 8 fields; the line is truncated"),
        (GOOD.replace(",1,", ",65,"), r"line 2: batch: '65' is not allowed; give a number from 1"),
        (GOOD.replace("lenet", "resnet"), r"line 2: network: 'resnet' is not allowed; allowed: le"),
        (GOOD.replace("derived", "guessed"), r"line 2: mark: 'guessed' is not allowed; allowed: v"),
        (GOOD.replace("somewhere", ""), r"line 2: source: '' is not allowed"),
        (GOOD + "\n" + GOOD, r"name: 'a' appears twice; keep one"),
        ('a,lenet,1,2.5,ms,"cold', r"is not CSV|truncated"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message) as told:
        read_table(write(tmp_path, HEADER, line), SCHEMA)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("batch", "batsh"), r"line 1: column 'batsh' is unknown; allowed once each"),
        (HEADER.replace(",mark", ""), r"line 1: column 'mark' is missing; needed: name, network"),
        (HEADER.replace("batch", "network"), r"line 1: column 'network' appears twice"),
    ],
)
def test_a_bad_header_is_named(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        read_table(write(tmp_path, header, GOOD), SCHEMA)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_table(tmp_path / "missing.csv", SCHEMA)
    with pytest.raises(CalibrationError, match="has no rows; add measurements"):
        read_table(write(tmp_path, HEADER), SCHEMA)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="is not UTF-8 text"):
        read_table(binary, SCHEMA)
