"""Samples of a board: null calls, copies and kernels, in an order drawn by a seed, resumable.

CPUs are kept out of deep sleep while kernels are timed. While calls are, they may sleep: what
waking up costs is what quality-of-service modes and idle gaps differ in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cost_models.packets.shapes import PacketShape
from cost_models.samples import Json, Sample
from hw_bridge.board.board import Board
from hw_bridge.board.doctor import CORNER
from hw_bridge.board.errors import BoardError
from hw_bridge.board.facts import read_warmth
from hw_bridge.board.launcher import Launcher, Vote
from hw_bridge.board.protocol import Lap, Latency
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.counting import count
from hw_bridge.hexagon.errors import KernelError
from hw_bridge.samples import SampleStore, collect

Wanted = tuple[str, Mapping[str, Json]]
Taken = tuple[tuple[int, ...], Mapping[str, Json]]
"""Raw values, and the conditions that they were taken under."""
COPY_BYTES = tuple(64 << 2 * i for i in range(8))
"""64 bytes to 1 MiB."""
GAPS_US = (0, 1_000, 10_000)
"""Idle time before a null call: CPUs and DSP may have gone to sleep by then."""
LATENCY_US = 100
"""How long the DSP's part of a call is said to take, for the modes that ask."""
NULL_WARM, COPY_WARM, KERNEL_WARM = 20, 2, 1
NULL_PART, COPY_PART, KERNEL_PART = 1000, 200, 32
"""Most of one order; each part starts with warm ones."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is to be sampled.

    Attributes
    ----------
    null_calls
        Calls of each null-call sample; 0: none of them.
    copies
        Calls of each copy sample; 0: none.
    repetitions
        Of each kernel on each shape; 0: no kernels.
    shapes
        Of kernels; one that comes again is taken once.
    threads
        HVX threads of each kernel.
    corner
        Voltage corner that clocks are held at; 0: the system's choice.
    cpu
        CPU that the launcher is pinned to; None: the system's choice.
    seed
        Of the order.
    """

    null_calls: int = 1000
    copies: int = 50
    repetitions: int = 10
    shapes: tuple[PacketShape, ...] = ()
    threads: tuple[int, ...] = (1,)
    corner: int = CORNER
    cpu: int | None = None
    seed: int = 0


@dataclass(slots=True)
class Progress:
    """What came of a campaign.

    Attributes
    ----------
    taken
        Samples of this run.
    notes
        What a reader of the samples must know, in sentences.
    """

    taken: int = 0
    notes: list[str] = field(default_factory=list)


def wanted_calls(campaign: Campaign, modes: Iterable[Latency]) -> Iterator[Wanted]:
    """Null calls and copies of a campaign, by the modes that the board takes."""
    held: dict[str, Json] = {"corner": campaign.corner, "cpu": campaign.cpu}
    for mode in modes if campaign.null_calls else ():
        for gap in GAPS_US:
            config: dict[str, Json] = {
                "qos": mode.name.lower(),
                "gap_us": gap,
                "calls": campaign.null_calls,
                **held,
            }
            yield f"null_call/{mode.name.lower()}/gap={gap}", config
    for size in COPY_BYTES if campaign.copies else ():
        for memory in ("copied", "shared"):
            config = {"bytes": size, "memory": memory, "calls": campaign.copies, **held}
            yield f"copy/{memory}/{size}", config


def wanted_kernels(campaign: Campaign) -> Iterator[Wanted]:
    """Kernels of a campaign, on each shape once."""
    for shape in dict.fromkeys(campaign.shapes) if campaign.repetitions else ():
        for threads in campaign.threads:
            config: dict[str, Json] = {
                **shape.document(),
                "threads": threads,
                "repetitions": campaign.repetitions,
                "corner": campaign.corner,
                "cpu": campaign.cpu,
            }
            yield f"kernel/{shape.key}/threads={threads}/corner={campaign.corner}", config


def wanted_of(campaign: Campaign, modes: Iterable[Latency]) -> list[Wanted]:
    """All samples of a campaign."""
    return [*wanted_calls(campaign, modes), *wanted_kernels(campaign)]


class Sampler:
    """Takes samples in one session with a board.

    Parameters
    ----------
    board
        Where.
    launcher
        Its open session.
    vote
        What holds its clocks; None if nothing does.
    cpu
        CPU to pin the launcher to; None: the system's choice.
    """

    def __init__(
        self, board: Board, launcher: Launcher, vote: Vote | None, cpu: int | None = None
    ) -> None:
        self._board, self._launcher = board, launcher
        self._vote, self._cpu = vote, cpu
        self._awake = False
        self._errno = launcher.steady(cpu, awake=False)
        self._refused_errno = 0
        self._timer = launcher.tell().loop.ticks > 0
        self._mode = Latency.OFF

    @property
    def timer(self) -> bool:
        """Whether the DSP's own timer counts."""
        return self._timer

    @property
    def notes(self) -> list[str]:
        """What the board's CPU did not do so far."""
        found = {"pinned": self._errno[0], "kept awake for kernels": self._refused_errno}
        return [
            f"the CPU could not be {what} (errno {code})" for what, code in found.items() if code
        ]

    def measure(self, key: str, config: Mapping[str, Json]) -> Sample:
        """Take one sample; see :func:`wanted_of`.

        Raises
        ------
        BoardError
            The board was lost, or a kernel refuses the shape: more memory than it was given, or
            more threads than there are HVX contexts.
        """
        kind = key.split("/", 1)[0]
        take = {"null_call": self._null_call, "copy": self._copy, "kernel": self._kernel}[kind]
        warmth: dict[str, Json] = {**read_warmth(self._board.transport)}
        cores = self._steady(awake=kind == "kernel")
        try:
            raw, conditions = take(config)
        except KernelError as error:
            raise BoardError(
                f"{key}: {error}; take a smaller --batch, another --model, or fewer --threads"
            ) from None
        held = {} if self._vote is None else {"vote": self._vote.words}
        told = {**warmth, **cores, **held, **conditions}
        return Sample(key, kind, "ns", raw, dict(config), told)

    def _steady(self, awake: bool) -> dict[str, Json]:
        """Keep the CPUs awake or let them sleep; what holds, as conditions of a sample."""
        if awake is not self._awake:
            self._errno, self._awake = self._launcher.steady(self._cpu, awake), awake
        pin, hold = self._errno
        self._refused_errno = self._refused_errno or hold
        pinned = None if pin else self._cpu
        return {
            "pinned_cpu": pinned,
            "pin_errno": pin,
            "kept_awake": awake and not hold,
            "awake_errno": hold,
        }

    def _set_mode(self, mode: Latency) -> None:
        if mode is not self._mode:
            code = self._launcher.latency(mode, LATENCY_US)
            if code:
                raise BoardError(f"the board took mode {mode.name.lower()} before, and now refuses")
            self._mode = mode

    def _null_call(self, config: Mapping[str, Json]) -> Taken:
        self._set_mode(Latency[str(config["qos"]).upper()])
        gap = _number(config, "gap_us")
        times: tuple[int, ...] = ()
        for calls in parts(_number(config, "calls"), NULL_PART):
            times += self._launcher.null_calls(calls, NULL_WARM, gap)
        return times, {"clock_hz": self._launcher.tell().clock_hz}

    def _copy(self, config: Mapping[str, Json]) -> Taken:
        self._set_mode(Latency.OFF)
        shared, size = config["memory"] == "shared", _number(config, "bytes")
        times: tuple[int, ...] = ()
        on_dsp: list[Json] = []
        for calls in parts(_number(config, "calls"), COPY_PART):
            part, laps = self._launcher.copies(size, shared, calls, COPY_WARM)
            times += part
            on_dsp += [lap.time_ns for lap in laps]
        clock: dict[str, Json] = {"clock_hz": self._launcher.tell().clock_hz}
        return times, clock | ({"dsp_ns": on_dsp} if self._timer else {})

    def _kernel(self, config: Mapping[str, Json]) -> Taken:
        self._set_mode(Latency.OFF)
        dsp = HexagonKernels(self._launcher, _number(config, "threads"))
        shape = PacketShape.of_document(config)
        repetitions = _number(config, "repetitions")
        if not self._timer:
            return self._whole_calls(dsp, shape, repetitions)
        laps: tuple[Lap, ...] = ()
        clocks: list[Json] = []
        for part in parts(repetitions, KERNEL_PART):
            self._launcher.repeat(part, KERNEL_WARM)
            count(dsp, shape)
            timed = self._launcher.timed()
            laps += timed.laps
            clocks += timed.clock_hz
        counted: dict[str, list[Json]] = {  # all 0 where the system hides a counter
            "cycles": [lap.cycles for lap in laps],
            "packets": [lap.packets for lap in laps],
        }
        raw = tuple(lap.time_ns for lap in laps)
        shown = {name: counts for name, counts in counted.items() if any(counts)}
        return raw, {"timer": "dsp", "clock_hz": clocks, **shown}

    def _whole_calls(self, dsp: HexagonKernels, shape: PacketShape, repetitions: int) -> Taken:
        times = []
        for _ in range(KERNEL_WARM + repetitions):
            count(dsp, shape)
            times.append(self._launcher.timed().call_ns)
        return tuple(times[KERNEL_WARM:]), {"timer": "cpu: the whole call"}


def parts(total: int, most: int) -> Iterator[int]:
    """Split a number so that no part is above ``most``: an order has only so much time.

    Examples
    --------
    >>> list(parts(25, 10))
    [10, 10, 5]
    """
    while total > 0:
        yield min(total, most)
        total -= most


def _number(config: Mapping[str, Json], name: str) -> int:
    value = config[name]
    assert isinstance(value, int)
    return value


def modes_of(launcher: Launcher) -> tuple[list[Latency], list[str]]:
    """Quality-of-service modes that a board takes, and notes on the others.

    A board that does not let modes be switched off again is left as it is.
    """
    code = launcher.latency(Latency.OFF, LATENCY_US)
    if code:
        return [Latency.OFF], [f"modes cannot be switched here ({code:#x}): only off is sampled"]
    taken, notes = [Latency.OFF], []
    for mode in (Latency.PM_QOS, Latency.ADAPTIVE, Latency.POLL):
        code = launcher.latency(mode, LATENCY_US)
        if code:
            notes.append(f"mode {mode.name.lower()} is refused here ({code:#x}) and left out")
        else:
            taken.append(mode)
    launcher.latency(Latency.OFF, LATENCY_US)
    return taken, notes


def sample(
    board: Board,
    campaign: Campaign,
    store: Path,
    start: Callable[[int], Callable[[], None]] = lambda count: lambda: None,
) -> Progress:
    """Take what a store lacks of a campaign.

    Parameters
    ----------
    board, campaign
        Where, and what.
    store
        File of samples: created, or continued.
    start
        Given the number of samples, returns what is called after each.

    Raises
    ------
    BoardError
        The board was lost; samples so far are in the store, and the same call goes on from there.
    SampleError
        The store cannot be written, or was measured on another board.
    """
    progress = Progress()
    with SampleStore.open(store, board.fingerprint()) as held:
        if held.torn_bytes:
            progress.notes.append(f"{held.torn_bytes} torn bytes at the store's end were cut off")
        before = len(held.samples)
        try:
            with board.session() as launcher:
                _collect(board, campaign, held, launcher, progress, start)
        except BoardError as error:
            kept = len(held.samples) - before
            raise BoardError(
                f"{error}. {kept} samples of this run are kept in {store}, {before} were there"
                " before; run the same command again to go on"
            ) from error
        progress.taken = len(held.samples) - before
    return progress


def _collect(
    board: Board,
    campaign: Campaign,
    store: SampleStore,
    launcher: Launcher,
    progress: Progress,
    start: Callable[[int], Callable[[], None]],
) -> None:
    vote = launcher.vote(campaign.corner) if campaign.corner else None
    if vote is not None and vote.status:
        progress.notes.append(f"clocks are not held: {vote.words}")
    modes, notes = modes_of(launcher)
    progress.notes += notes
    sampler = Sampler(board, launcher, vote, campaign.cpu)
    if not sampler.timer:
        progress.notes.append("the DSP's timer stands still: kernels are timed by whole calls")
    wanted = wanted_of(campaign, modes)
    collect(store, wanted, sampler.measure, seed=campaign.seed, advance=start(len(wanted)))
    progress.notes += sampler.notes
    if vote is not None:
        launcher.vote(None)
