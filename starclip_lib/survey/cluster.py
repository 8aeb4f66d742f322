"""Tasks on Dask: processes of this machine, or a cluster that is there already."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager

import dask
from dask.distributed import Client, Future, LocalCluster, as_completed
from distributed.scheduler import KilledWorker

from starclip_lib.support.errors import DataError, StarclipError, SystemFault, one_line, system_message
from starclip_lib.support.files import size_text
from starclip_lib.support.machine import memory, socket_folder, usable_cores
from starclip_lib.support.threads import Callback
from starclip_lib.survey.embedding import Done, Setup, embed_task
from starclip_lib.survey.sources import Task

_PER_WORKER = 1.5e9  # bytes: PyTorch, emulator, model, a task's spectra
_AHEAD = 3  # tasks that are handed out for each worker
_EVERY = 10.0  # seconds between lines of progress
_STARTING, _ATTEMPTS = 300, 2  # seconds until a worker has to answer, and how often it is tried
_PATIENCE = 15  # seconds until a scheduler has to answer
_PAUSE = 0.1  # seconds between looks at the workers


@contextmanager
def cluster(n_workers: int, scheduler: str, callback: Callback) -> Iterator[Client]:
    """Workers for tasks: those of the scheduler at an address, or processes of this machine with a thread each.

    `n_workers` counts those of this machine; 0: as many as there are cores, and as memory holds.
    """
    if scheduler:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what versions differ in is asked below
                client = Client(scheduler, timeout=_PATIENCE)
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            reason = one_line(str(error)) or "no answer"
            raise DataError(f"the scheduler {scheduler} cannot be reached ({reason[:160]}); is it running?") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError:
                raise DataError(
                    f"the scheduler {scheduler} has no workers: start some with dask worker {scheduler}"
                ) from None
            callback(f"{len(client.scheduler_info(n_workers=-1)['workers'])} workers of {scheduler}")
            yield client
        return
    room = max(1, int(memory()[0] / _PER_WORKER))
    n_workers = n_workers or min(usable_cores(), room)
    # Dask has its workers give back every freed page at once, which makes these tensors twice as slow
    pages = {"MALLOC_MMAP_THRESHOLD_": 2**28, "MALLOC_TRIM_THRESHOLD_": 2**30}
    dask.config.set(
        {
            "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1, **pages},
            # on a busy machine a worker takes a minute to import what it needs
            "distributed.comm.timeouts.connect": f"{_STARTING}s",
            "distributed.comm.timeouts.tcp": f"{_STARTING}s",
        }
    )
    with (
        tempfile.TemporaryDirectory(dir=socket_folder(), ignore_cleanup_errors=True) as private,
        _started(n_workers, private) as local,
        Client(local) as client,
    ):
        callback(f"{n_workers} {'worker' if n_workers == 1 else 'workers'} on this machine, a thread each")
        yield client


def _started(n_workers: int, folder: str) -> LocalCluster:
    """Workers of this machine, which keep their files in a folder; one more attempt if they cannot be started."""
    # with keys of their own, since any program that can talk to a scheduler can have it run anything
    options = {"security": True, "dashboard_address": "127.0.0.1:0", "silence_logs": 50, "memory_limit": 0}
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            return LocalCluster(n_workers=n_workers, threads_per_worker=1, local_directory=folder, **options)
        except (RuntimeError, OSError) as error:  # killed, no memory, or no answer in time
            reason = one_line(str(error))
    raise SystemFault(f"no worker could be started ({reason}); run the same command again")


def compute(
    client: Client,
    tasks: Sequence[Task],
    setup: Setup,
    callback: Callback,
    work: Callable[[Task, Setup], Done] = embed_task,
) -> list[tuple[str, int, str]]:
    """Run tasks on free workers; the (file, row, reason) of those that killed workers repeatedly.

    The part of each finished task is on disk. `work` is a function that workers can import. Raises DataError if a
    worker lacks a package or has another version; SystemFault if parts cannot be written, with the number of those that
    are.
    """
    waiting, total, handed = list(tasks)[::-1], len(tasks), {}
    lost: list[tuple[str, int, str]] = []
    spectra, written, began, said = 0, 0, time.monotonic(), 0.0
    n_workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))

    def hand_out(n: int) -> list:
        few = [waiting.pop() for _ in range(min(n, len(waiting)))]
        handed.update({f"embed-{task.key}": task for task in few})
        return [client.submit(work, task, setup, key=f"embed-{task.key}", retries=0) for task in few]

    futures = as_completed(hand_out(_AHEAD * n_workers))
    for done, future in enumerate(while_there_are_workers(client, futures), start=1):
        try:
            result: Done = future.result()
            spectra, written = spectra + result.spectra, written + result.size
        except KilledWorker:
            task = handed[str(future.key)]
            if len(task.inputs) == 1:
                lost.append((task.inputs[0].file, task.inputs[0].start, "workers died of it (memory?)"))
            else:  # which of them?
                waiting += [Task(task.kind, task.instrument, (one,)) for one in task.inputs]
                total += len(task.inputs)
        except SystemFault as error:
            need = size_text(written / max(1, done - 1) * (total - done + 1)) if written else "some"
            finished = f"{done - 1} of {total} parts are finished"
            raise SystemFault(f"{error}; {finished}, about {need} more are needed") from None
        except StarclipError:
            raise
        except ModuleNotFoundError as error:
            raise DataError(f"a worker has no {error.name}: install starclip {setup.about.package} there") from None
        except (OSError, MemoryError) as error:
            raise SystemFault(system_message(error)) from error
        except CancelledError:
            raise SystemFault(
                f"workers were lost; {done - 1} of {total} parts are finished. Run the same command again to continue"
            ) from None
        except Exception as error:  # whatever another machine has: torch, pickled versions, ...
            raise SystemFault(f"a worker failed: {type(error).__name__}: {one_line(str(error))[:200]}") from error
        future.release()
        for new in hand_out(max(1, _AHEAD * n_workers - futures.count())):
            futures.add(new)
        elapsed = time.monotonic() - began
        if elapsed - said > _EVERY or done == total:
            said = elapsed
            left, rate = _clock(elapsed / done * (total - done)), spectra / elapsed
            callback(f"{done} of {total} parts, {spectra:,} spectra, {rate:,.0f} a second, {left} left")
    return lost


def while_there_are_workers(client: Client, futures: as_completed) -> Iterator[Future]:
    """Finished futures; SystemFault if there has been no worker for as long as one takes to start, twice."""
    seen = time.monotonic()
    while not futures.is_empty():
        if futures.has_ready():
            yield next(futures)
            seen = time.monotonic()
            continue
        time.sleep(_PAUSE)
        if client.scheduler_info(n_workers=-1)["workers"]:
            seen = time.monotonic()
        elif time.monotonic() - seen > 2 * _STARTING:
            raise SystemFault("all workers were lost and none came back. Run the same command again to continue")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
