"""Where shards run: in this process, in processes of this machine, or on a Ray cluster.

All through joblib's interface, whose results come as they are finished. A backend knows nothing of
searches: it runs calls and says when a worker is lost.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar

from experiments.search.objectives import SearchError
from kernels.threads import available_threads

if TYPE_CHECKING:
    from joblib import Parallel

T = TypeVar("T")
Call = tuple[Callable[..., T], tuple[Any, ...]]
"""A function and its arguments."""
BACKENDS = ("processes", "ray", "serial")
ONE_PROCESS = "mandheling-one-process"
IDLE_S = 300
"""Seconds without a call after which its process ends, as joblib has it for several."""
RAY_MISSING = (
    "--backend ray needs Ray, which is not installed; pip install 'mandheling-sandbox[cluster]'"
)


class LostWorkerError(Exception):
    """A worker died with what it was running; what had come back before is good."""


class Backend:
    """Runs calls; use :func:`started`.

    Attributes
    ----------
    name
        One of :data:`BACKENDS`.
    workers
        How many calls run at the same time.
    """

    def __init__(self, name: str, workers: int, options: Mapping[str, Any]) -> None:
        self.name, self.workers, self._options = name, workers, options

    @contextmanager
    def pool(self) -> Iterator[Callable[[Iterable[Call[T]]], Iterator[T]]]:
        """Give a function that runs calls and yields what they return, first come first.

        Calls are taken from the iterable as workers become free, and at most :attr:`workers`
        ahead of them. An error of a call is raised where its result would come.

        Raises
        ------
        LostWorkerError
            A worker died: leave the block, and enter another one.
        """
        from joblib import Parallel, parallel_config

        try:
            with (
                parallel_config(backend=self.joblib_name, **self._options),
                Parallel(
                    n_jobs=self.workers,
                    return_as="generator_unordered",
                    batch_size=1,
                    pre_dispatch=self.workers,
                ) as parallel,
            ):
                yield lambda calls: self._results(parallel, calls)
        except BaseException:
            _kill_workers()
            raise

    @property
    def joblib_name(self) -> str:
        """What joblib knows it by."""
        if self.name == "processes" and self.workers == 1:
            return ONE_PROCESS
        return {"serial": "sequential", "processes": "loky", "ray": "mandheling-ray"}[self.name]

    def _results(self, parallel: Parallel, calls: Iterable[Call[T]]) -> Iterator[T]:
        from joblib import delayed

        lost = _lost_errors(self.name)
        try:
            yield from parallel(delayed(function)(*given) for function, given in calls)
        except lost as error:
            raise LostWorkerError(str(error).split("\n", 1)[0]) from error

    def shrunk(self) -> Backend:
        """Return the same backend with no more workers than there are CPUs now.

        A node of a cluster that died took its CPUs along.
        """
        if self.name != "ray":
            return self
        return Backend(self.name, max(1, min(self.workers, _ray_cpus())), self._options)


@contextmanager
def started(
    name: str = "processes", workers: int | None = None, address: str | None = None
) -> Iterator[Backend]:
    """Give a backend by name.

    Parameters
    ----------
    workers
        Calls at the same time; by default as many as there are CPUs to use.
    address
        Of a Ray cluster, ``host:port``; by default the one that this machine belongs to or that
        ``RAY_ADDRESS`` names, else one is started on this machine for the time.

    Raises
    ------
    SearchError
        The name is unknown; Ray is not installed or not reached; or there are fewer CPUs in the
        cluster than workers asked for.
    """
    if name not in BACKENDS:
        raise SearchError(f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
    if name == "ray":
        with _ray(workers, address) as backend:
            yield backend
        return
    if address is not None:
        raise SearchError(f"address {address!r} is for backend 'ray'; leave it out for {name!r}")
    if name == "serial":
        if workers not in (None, 1):
            raise SearchError(f"backend 'serial' has 1 worker, not {workers}; take 'processes'")
        yield Backend(name, 1, {})
        return
    workers = workers or available_threads()
    if workers == 1:
        _register_one_process()
    options = {
        "inner_max_num_threads": 1,
        "initializer": _serve,
        "initargs": (os.getpid(), workers),
    }
    yield Backend(name, workers, options)


def _register_one_process() -> None:
    """Make joblib run calls in one worker process: by itself it runs them in this one.

    There, a searcher that kills its process would kill the search.
    """
    from joblib import register_parallel_backend
    from joblib._parallel_backends import LokyBackend
    from joblib.executor import get_memmapping_executor

    class OneProcess(LokyBackend):  # type: ignore[misc]
        """Says that it runs two calls at a time, and has a single worker."""

        def effective_n_jobs(self, n_jobs: int) -> int:
            """Return 2, below which joblib asks no backend."""
            return 2

        def configure(
            self, n_jobs: int = 1, parallel: Parallel | None = None, **options: Any
        ) -> int:
            """Make the worker; no process is started before the first call."""
            self._workers = get_memmapping_executor(
                1,
                timeout=IDLE_S,
                env=self._prepare_worker_env(n_jobs=1),
                context_id=parallel._id if parallel is not None else None,
                **{**self.backend_kwargs, **options},
            )
            self.parallel = parallel
            return self.effective_n_jobs(n_jobs)

    register_parallel_backend(ONE_PROCESS, OneProcess)


@contextmanager
def _ray(workers: int | None, address: str | None) -> Iterator[Backend]:
    try:
        import ray
        from joblib import register_parallel_backend
        from ray.util.joblib import register_ray
        from ray.util.joblib.ray_backend import RayBackend
    except ImportError:
        raise SearchError(RAY_MISSING) from None

    class Streaming(RayBackend):  # type: ignore[misc]
        """Ray's backend for joblib, whose results may be had as they come."""

        supports_return_generator = True

        def abort_everything(self, ensure_ready: bool = True) -> None:
            """Give up the pool without making another: its size may be that of a lost node."""
            super().abort_everything(ensure_ready=False)

    register_ray()
    register_parallel_backend("mandheling-ray", Streaming)
    ours = not ray.is_initialized()
    if ours:
        _connect(workers, address)
    try:
        cpus = _ray_cpus()
        if workers is not None and workers > cpus:
            raise SearchError(
                f"{workers} workers were asked for, and the Ray cluster has {cpus} CPUs; ask for "
                "fewer, or add nodes"
            )
        yield Backend("ray", workers or cpus, {"ray_remote_args": {"num_cpus": 1}})
    finally:
        if ours:
            ray.shutdown()


def _connect(workers: int | None, address: str | None) -> None:
    """Connect to a cluster, or start one of this machine where there is none."""
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SearchError(
                f"Ray cluster {address!r} cannot be reached ({str(error).splitlines()[0]}); give "
                "the host:port that 'ray start --head' printed"
            ) from None
        return
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        ray.init(num_cpus=workers or available_threads(), include_dashboard=False, **quiet)


def _ray_cpus() -> int:
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def _lost_errors(name: str) -> tuple[type[Exception], ...]:
    """Errors by which a backend says that a worker is gone."""
    if name == "ray":
        from ray.exceptions import RayError

        return (RayError,)
    from joblib.externals.loky.process_executor import BrokenProcessPool

    return (BrokenProcessPool,)


def _kill_workers() -> None:
    """End all workers of this machine.

    joblib does so by itself, with the help of a command that Ctrl-C on a terminal ends, too. Python
    would then wait for the workers when it ends, and they for its end.
    """
    from joblib.externals.loky.backend.process import LokyProcess

    for child in active_children():
        if isinstance(child, LokyProcess) and child.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def _serve(parent: int, workers: int) -> None:
    """Prepare one of some worker processes: it ends when whoever started it does, and not before.

    Another number of workers is another argument, for which loky starts others: where it lets some
    of them go, it may wait for ever.

    Ctrl-C goes to every process of a terminal, but the parent ends its workers itself. A parent
    that was killed cannot, and they would wait for work for ever.
    """

    def watch() -> None:
        while os.getppid() == parent:
            sleep(1)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=watch, daemon=True).start()
