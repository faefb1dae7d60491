"""Runs on this machine, started one by one without the launcher's queue and policy, for tests of training itself."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.launch.backends.base import Resources
from scaling.launch.backends.local.backend import LocalBackend
from scaling.launch.backends.local.machine_locks import DeviceLocks
from scaling.launch.backends.local.run import LocalRun, WarmServer
from scaling.launch.backends.local.slots import cut_slots, this_machine
from scaling.launch.graph.study_graph import StudyGraph
from scaling.launch.study_dir import PlannedRun
from scaling.launch.watch import Watch
from scaling.records.attempts.contract import DONE, Execution
from scaling.records.evaluation import Evaluation
from scaling.records.result import RunResult
from scaling.records.study import load_run
from scaling.spec.launch_spec import LaunchSpec, LocalSection


@dataclass(frozen=True, slots=True)
class Ended:
    """A run whose processes are gone."""

    run_dir: Path
    exit_code: int


class LocalRuns:
    """Starts runs with one thread a process, each on the first free slot."""

    def __init__(self, launch: LaunchSpec | None = None) -> None:
        devices = (launch or LaunchSpec()).devices
        self._slots = cut_slots(this_machine(), devices_per_run=devices, max_parallel=None, threads=1)
        self._locks, self._server = DeviceLocks(), WarmServer()
        self._runs: list[LocalRun] = []

    def start(self, run_dir: Path) -> None:
        deadline = time.monotonic() + 120
        while True:
            for slot in self._slots:
                locks = self._locks.take(slot.own_cores, [gpu.uuid for gpu in slot.gpus])
                if locks is not None:
                    execution = Execution(threads=slot.threads, loader_threads=1)
                    self._runs.append(LocalRun(run_dir, slot, locks, execution, self._server))
                    return
            assert time.monotonic() < deadline, "no core became free"
            time.sleep(0.05)

    def poll(self) -> list[Ended]:
        """Runs that ended since the last call."""
        ended = [Ended(run.run_dir, code) for run in self._runs if (code := run.poll()) is not None]
        self._runs = [run for run in self._runs if run.run_dir not in {one.run_dir for one in ended}]
        return ended

    def stop(self) -> None:
        """Ask all to save and leave, and wait until they have."""
        for run in self._runs:
            run.ask_to_leave()
        for run in self._runs:
            run.wait(time.monotonic() + 120)
        self._runs = []


def train_all(runs: Sequence[PlannedRun], retries: int = 0) -> None:
    """Take planned runs of one study to their ends as a launcher does, one thread a process."""
    launch = LaunchSpec(local=LocalSection(threads=1), retries=retries)
    study_dir = runs[0].run_dir.parent
    graph = StudyGraph(study_dir, runs)
    Watch(LocalBackend(launch, Resources.of(launch)), graph, study_dir, cap=None, retries=retries).run()


def wait(backend: LocalRuns, run: PlannedRun) -> int:
    """Exit code of a started run."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for ended in backend.poll():
            assert ended.run_dir == run.run_dir
            return ended.exit_code
        time.sleep(0.02)
    raise AssertionError(f"{run.run_dir} did not end: {(run.run_dir / 'log.txt').read_text()[-2000:]}")


def train(backend: LocalRuns, run: PlannedRun) -> RunResult:
    backend.start(run.run_dir)
    code = wait(backend, run)
    assert code == DONE, (run.run_dir / "log.txt").read_text()[-3000:]
    return scored(run)


def scored(run: PlannedRun) -> RunResult:
    """The result with the metrics of the evaluations among its own."""
    record = load_run(run.run_dir)
    assert record.result is not None and record.standing.is_finished
    return record.result.model_copy(update={"metrics": record.metrics})


def few_shot(run: PlannedRun) -> dict[str, float]:
    """The metrics of the run's only evaluation."""
    return Evaluation.load(run.run_dir, "fewshot").metrics
