"""Federated runs: what the server makes of answers, whose images are whose, and whole runs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from experiments.datasets import load_splits
from experiments.federated.accounts import Link, RoundRow, Visit, round_row
from experiments.federated.clients import local_batches, local_seed, sampled, shares
from experiments.federated.config import FederatedConfig
from experiments.federated.ground import prepare
from experiments.federated.packets import packed, values
from experiments.federated.server import RULES, Answer, Server
from experiments.training.config import ConfigError, TrainConfig
from experiments.training.progress import Tally
from kernels.quantised import LEAST, quantise_exactly
from sim.autodiff import LOSS

Floats = NDArray[np.float32]
SIZE = 7
MANTISSAS = st.lists(st.integers(-128, 127), min_size=SIZE, max_size=SIZE)
CLIENTS = st.lists(
    st.tuples(MANTISSAS, st.integers(-12, -4), st.integers(1, 500)), min_size=1, max_size=6
)


def tensor(mantissas: list[int], exponent: int) -> Floats:
    return np.ldexp(np.array(mantissas, np.float32), exponent)


def rounded(exact: list[Fraction]) -> list[Fraction]:
    """The nearest values of INT8, ties to even: the plain twin of what the server keeps."""
    exponent = -40 if any(exact) else -7
    while max(exact) >= (most := Fraction(2) ** (exponent + 7)) or min(exact) < -most:
        exponent += 1
    unit = Fraction(2) ** exponent
    return [max(-128, min(127, round(value / unit))) * unit for value in exact]


def exact_mean(clients: list[tuple[Floats, int]]) -> list[Fraction]:
    images = sum(count for _, count in clients)
    columns = zip(*(array.tolist() for array, _ in clients), strict=True)
    counts = [count for _, count in clients]
    return [
        sum((Fraction(v) * n for v, n in zip(column, counts, strict=True)), Fraction(0)) / images
        for column in columns
    ]


def merged(server: Server, clients: list[tuple[Floats, int]]) -> tuple[int, int]:
    """One round in which each client ends at given weights."""
    before = server.broadcast().floats()
    answers = [Answer(server.answer(before, {"w": array}, {}), n) for array, n in clients]
    return server.merge(answers)


# -- packets ----------------------------------------------------------------------------------


@given(MANTISSAS, st.integers(-100, 100))
def test_values_of_int8_travel_exactly(mantissas: list[int], exponent: int) -> None:
    weights = {"w": tensor(mantissas, exponent)}
    assert np.array_equal(packed(weights, {"w"}, {}).floats()["w"], weights["w"])


def test_numbers_that_are_none_do_not_travel() -> None:
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="NaN or infinity"):
            packed({"w": np.array([1.0, value], np.float32)}, {"w"}, {})


def test_bytes_of_a_packet() -> None:
    weights = {"conv": np.ones((4, 3, 3, 2), np.float32), "norm": np.ones(4, np.float32)}
    packet = packed(weights, {"conv"}, {"norm:mean": np.ones(4, np.float32)})
    assert packet.size_bytes == (4 * 3 * 3 * 2 + 1) + 4 * 4 + 4 * 4
    assert packet.fp32_bytes == 4 * (4 * 3 * 3 * 2 + 4 + 4)


@pytest.mark.parametrize("value", [LEAST, -LEAST, LEAST / 2, 1e-40, 0.0])
def test_tiny_tensors_become_zero_and_no_error(value: float) -> None:
    exact = value if abs(value) >= LEAST else 0.0
    found = float(quantise_exactly(np.array([value, 0.0], np.float32)).dequantise()[0])
    assert found == pytest.approx(exact, rel=2**-6, abs=0)


# -- the server against exact fractions --------------------------------------------------------


@given(CLIENTS)
def test_int8_rounds_the_exact_mean(clients: list[tuple[list[int], int, int]]) -> None:
    server = Server("int8", frozenset({"w"}), {"w": np.zeros(SIZE, np.float32)})
    sent = [(tensor(m, e), n) for m, e, n in clients]
    merged(server, sent)
    mean = exact_mean(sent)
    found = [Fraction(v) for v in server.weights["w"].tolist()]
    if found != rounded(mean):  # the mean was rounded to float64 onto a tie, or off one
        largest = max(map(abs, rounded(mean))) or 1
        for left, right, at in zip(found, rounded(mean), mean, strict=True):
            assert left == right or abs(abs(left - at) - abs(right - at)) < largest / 2**50


@given(CLIENTS, st.randoms(use_true_random=False))
def test_the_order_of_clients_hardly_counts(
    clients: list[tuple[list[int], int, int]], random: Any
) -> None:
    """INT8 times a count is exact in float64, so that only the division rounds."""
    sent = [(tensor(m, e), n) for m, e, n in clients]
    other = random.sample(sent, len(sent))
    found = []
    for order in (sent, other):
        server = Server("int8", frozenset({"w"}), {"w": np.zeros(SIZE, np.float32)})
        merged(server, order)
        found.append(server.weights["w"].tobytes())
    assert found[0] == found[1]


@given(st.lists(CLIENTS, min_size=1, max_size=4), MANTISSAS)
def test_fp32_global_adds_the_mean_difference(
    rounds: list[list[tuple[list[int], int, int]]], start: list[int]
) -> None:
    server = Server("fp32-global", frozenset({"w"}), {"w": tensor(start, -7)})
    for clients in rounds:
        kept, before = server.weights["w"], server.broadcast().floats()["w"]
        ends = [(before + tensor(m, e), n) for m, e, n in clients]
        merged(server, ends)
        sent = [(values(quantise_exactly(end - before)).astype(np.float32), n) for end, n in ends]
        mean = np.array([float(value) for value in exact_mean(sent)])
        wanted = kept.astype(np.float64) + mean
        np.testing.assert_allclose(server.weights["w"], wanted, rtol=2**-23, atol=2**-60)


@pytest.mark.parametrize(("rule", "kept"), [("int8", False), ("fp32-global", True)])
def test_small_changes_are_lost_by_one_rule_and_add_up_by_the_other(rule: str, kept: bool) -> None:
    start, change = tensor([100, -64, 3, 0, 1, -1, 127], -7), np.float32(0.3 * 2**-7)
    server = Server(rule, frozenset({"w"}), {"w": start.copy()})
    for turn in range(8):
        before = server.broadcast().floats()["w"]
        assert np.array_equal(before, start) == (turn < 2 or not kept)
        moved, stuck = merged(server, [(before + change, 5)])
        assert moved == (SIZE if kept else 0)
        assert turn > 0 or stuck == moved
        assert turn != 1 or stuck < SIZE
    gained = server.weights["w"] - start
    assert np.allclose(gained, 8 * change if kept else 0, rtol=0.02)


def test_stuck_counts_what_the_mean_moved_in_vain() -> None:
    server = Server("int8", frozenset({"w"}), {"w": tensor([100, 50, 7], -7)})
    ends = [(tensor([102, 51, 7], -7), 1), (tensor([100, 50, 7], -7), 3)]
    # means 100.5 (to 100, even), 50.25 (to 50) and 7
    assert merged(server, ends) == (2, 2)
    assert merged(server, [(tensor([104, 50, 7], -7), 1)]) == (1, 0)


def test_weights_count_by_images_and_fp32_tensors_under_every_rule() -> None:
    for rule in RULES:
        server = Server(
            rule, frozenset(), {"w": np.zeros(2, np.float32)}, {"n:mean": np.ones(1, np.float32)}
        )
        answers = [
            Answer(packed({"w": np.float32([a, -a])}, (), {"n:mean": np.float32([a])}), images)
            for a, images in ((1.0, 1), (2.0, 3))
        ]
        assert server.merge(answers) == (0, 0)
        assert server.weights["w"].tolist() == [1.75, -1.75]
        assert server.statistics["n:mean"].tolist() == [1.75]


def test_a_server_refuses_what_is_no_answer() -> None:
    server = Server("fp32", frozenset(), {"w": np.zeros(2, np.float32)})
    packet = packed(server.weights, (), {})
    for answers in ([], [Answer(packet, 0)], [Answer(packet, 3), Answer(packet, -3)]):
        with pytest.raises(ValueError, match="answers: images"):
            server.merge(answers)
    with pytest.raises(ValueError, match="rule: 'median'; allowed: int8"):
        Server("median", frozenset(), {})


# -- clients ----------------------------------------------------------------------------------


def test_sampling_is_keyed_even_and_without_replacement() -> None:
    rounds = [sampled(50, 10, 3, number) for number in range(400)]
    assert all(len(set(r)) == 10 and r == sorted(r) for r in rounds)
    assert rounds[:2] == [sampled(50, 10, 3, 0), sampled(50, 10, 3, 1)]
    assert rounds[0] != rounds[1]
    assert sampled(50, 10, 4, 0) != rounds[0]
    counts = Counter(client for r in rounds for client in r)
    assert sum((counts[c] - 80) ** 2 / 80 for c in range(50)) < 90  # chi square, 49 degrees


def test_draws_stay_the_same_for_good() -> None:
    assert sampled(100, 5, 0, 0) == [26, 37, 61, 63, 91]
    assert local_seed(0, 1, 2) == 347429973970062814


@pytest.mark.parametrize("count", [1, 5, 16, 17, 33])
def test_a_local_epoch_shows_every_image(count: int) -> None:
    train, _ = load_splits("digits")
    share = np.arange(100, 100 + count)
    orders = []
    for epoch in range(2):
        batches = local_batches(train, share, 16, seed=9, epoch=epoch, augment=())
        assert len(batches) == -(-count // 16)
        shown = batches.dataset.images
        seen = Counter(image.tobytes() for image in shown)
        assert seen.keys() == {train.images[i].tobytes() for i in share}
        assert max(seen.values()) - min(seen.values()) <= 1
        assert [len(labels) for _, labels in batches] == [16] * len(batches)
        orders.append(shown.tobytes())
    assert count == 1 or orders[0] != orders[1]


def test_images_are_shared_out_once() -> None:
    train, test = load_splits("digits")
    parts, tested = shares(train, test, 12, 0.5, seed=1)
    assert tested is test
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(train)))
    assert len(parts) == 12
    assert len(shares(train, test, None, 0.5, seed=1)[0]) == 20
    classes = [len(set(train.labels[part].tolist())) for part in parts]
    even = [len(set(train.labels[p].tolist())) for p in shares(train, test, 12, 1e6, seed=1)[0]]
    assert sum(classes) < sum(even) == 12 * 10


def leaf(folder: Path, users: dict[str, int]) -> Path:
    """Write a FEMNIST of two classes far apart, in LEAF's form."""
    rng = np.random.default_rng(0)
    for split, share in (("train", 1), ("test", 4)):
        content: dict[str, Any] = {"users": [], "num_samples": [], "user_data": {}}
        for user, count in users.items():
            labels = [10 + 51 * int(bit) for bit in rng.integers(0, 2, -(-count // share))]
            images = 0.9 * (np.array(labels)[:, None] == 10) + 0.1 * rng.random((len(labels), 784))
            content["users"].append(user)
            content["num_samples"].append(len(labels))
            content["user_data"][user] = {"x": images.round(3).tolist(), "y": labels}
        (folder / split).mkdir(parents=True)
        (folder / split / "all_data_0.json").write_text(json.dumps(content))
    return folder


def test_users_are_clients_and_tested_on(tmp_path: Path) -> None:
    train, test = load_splits("femnist", leaf(tmp_path, {"a": 8, "b": 5, "c": 12, "d": 4}))
    parts, tested = shares(train, test, None, 0.5, seed=0)
    assert [len(part) for part in parts] == [8, 5, 12, 4]
    assert len(tested) == len(test)
    some, less = shares(train, test, 2, 0.5, seed=0)
    users = [set(train.owners[part].tolist()) for part in some]
    assert [len(user) for user in users] == [1, 1]
    assert set(less.owners.tolist()) == users[0] | users[1]
    with pytest.raises(ConfigError, match="clients: 5; femnist has 4 users"):
        shares(train, test, 5, 0.5, seed=0)


# -- accounts ---------------------------------------------------------------------------------


def visit(client: int, time_ns: int, down: int = 1000, up: int = 500) -> Visit:
    tally = Tally(steps=2, images=8, correct=3, loss=1.5, time_ns=time_ns, energy_pj=7)
    return Visit(client, tally, down, up, 4 * down, 4 * up)


def test_the_slowest_phone_makes_the_round() -> None:
    link = Link(down_mbps=8, up_mbps=1)  # 1000 ns and 8000 ns a byte
    row = round_row(3, [visit(1, 50), visit(4, 900, up=400), visit(6, 60)], link, (5, 2), 9)
    assert link.time_ns(1000, 500) == 1_000_000 + 4_000_000
    assert (row.slowest, row.time_ns, row.training_ns) == (6, 5_000_060, 60)
    assert row.clients == (1, 4, 6)
    assert (row.tally.energy_pj, row.tally.time_ns, row.tally.steps) == (21, 1010, 6)
    assert (row.down_bytes, row.up_bytes) == (3000, 1400)
    assert (row.down_fp32_bytes, row.up_fp32_bytes) == (12000, 5600)
    assert RoundRow.from_json(json.loads(json.dumps(row.as_json()))) == row


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 10**6))
def test_time_on_the_link_is_rounded_up(down: int, up: int, rate: int) -> None:
    found = Link(rate, 2 * rate).time_ns(down, up)
    exact = Fraction(8000 * down, rate) + Fraction(8000 * up, 2 * rate)
    assert exact <= found < exact + 2


# -- settings ---------------------------------------------------------------------------------

LOCAL = TrainConfig(
    "lenet", "digits", epochs=1, batch=16, rate=0.01, schedule="constant", validation=0
)
SMALL = FederatedConfig(LOCAL, rounds=3, clients=8, per_round=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds: 0; allowed: an integer from 1"),
        ({"clients": 0}, "clients: 0"),
        ({"per_round": 2.0}, "per_round: 2.0"),
        ({"up_mbps": -1}, "up_mbps: -1"),
        ({"alpha": 0.0}, "alpha: 0.0; allowed: above 0"),
        ({"alpha": float("nan")}, "alpha: nan"),
        ({"alpha": 1e-320}, "alpha: 1e-320; allowed: above 0"),
        ({"alpha": "0.5"}, "alpha: '0.5'; allowed: above 0"),
        ({"alpha": True}, "alpha: True; allowed: above 0"),
        ({"alpha": 10**400}, "alpha: 1000.*; allowed: above 0"),
        ({"clients": True}, "clients: True; allowed: an integer"),
        ({"rounds": None}, "rounds: None; allowed: an integer"),
        ({"aggregate": 3}, "aggregate: 3; allowed: int8"),
        ({"training": "lenet"}, "training: 'lenet'; allowed: a TrainConfig"),
        ({"aggregate": "mean"}, "aggregate: 'mean'; allowed: int8, fp32-global, fp32"),
        ({"training": replace(LOCAL, validation=5)}, "validation: 5; a federated run has 0"),
        ({"training": replace(LOCAL, validation=None)}, "validation: None"),
        ({"training": replace(LOCAL, trace=True)}, "trace: True"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **change)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(SMALL, per_round=9), "per_round: 9; allowed: 1 to 8"),
        (replace(SMALL, aggregate="fp32"), "plan mandheling trains in INT8: take int8, fp32-gl"),
        (
            replace(SMALL, aggregate="int8", training=replace(LOCAL, plan="mnn-fp32")),
            "plan mnn-fp32 trains in FP32: take fp32",
        ),
        (replace(SMALL, training=replace(LOCAL, profile="nine")), "profile: 'nine'; allowed"),
    ],
)
def test_names_are_checked_together(config: FederatedConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(config)


def test_a_model_gets_as_many_outputs_as_there_are_classes(tmp_path: Path) -> None:
    data = str(leaf(tmp_path, {"a": 8, "b": 5}))
    local = replace(LOCAL, dataset="femnist", data=data)
    ground = prepare(FederatedConfig(local, rounds=2, per_round=2))
    for made, classes in ((ground, 62), (prepare(SMALL), 10)):
        graph = made.local.graph
        assert graph.tensor(graph.node(LOSS).inputs[0]).shape == (16, classes)
    assert ground.config.clients == 2
    assert ground.config.aggregate == "fp32-global"
    assert json.loads(json.dumps(ground.identity)) == ground.identity
