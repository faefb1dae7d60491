"""How each attempt ended: told by the run itself, by what its other processes said, or by who started it."""

import time
from pathlib import Path

import pytest

from scaling.records.attempts.attempt import claim_attempt
from scaling.records.attempts.causes import Cause, Verdict, decide
from scaling.records.attempts.contract import BAD_INPUT, BUSY, DONE, LOST_PARTNER, MACHINE_TROUBLE, PREEMPTED
from scaling.records.attempts.ends import End, append_end, forgive, read_ends, settle_end
from scaling.records.attempts.rank_failures import RankFailure, report_failure
from scaling.records.run_dir import RunDir
from scaling.records.state import RunState, Status


def told(run_dir: Path, cause: Cause, job: str = "") -> End:
    """An attempt that claimed its number and recorded its own end."""
    end = End(attempt=claim_attempt(run_dir, job).attempt, cause=cause, job=job, message="said by itself")
    append_end(run_dir, end)
    return end


def test_what_the_run_said_itself_stands_and_is_not_written_twice(tmp_path: Path) -> None:
    own = told(tmp_path, Cause.FAILED)
    before = RunDir(tmp_path).ends.read_bytes()
    assert settle_end(tmp_path, LOST_PARTNER) == own
    assert settle_end(tmp_path, 1, cause=Cause.FAILED) == own
    assert RunDir(tmp_path).ends.read_bytes() == before


def test_of_a_silent_death_its_last_signs_of_life_are_kept(tmp_path: Path) -> None:
    attempt = claim_attempt(tmp_path, "17_0/1")
    state = RunState(status=Status.RUNNING, attempt=1, step=40, train_seconds=8.0)
    state.model_copy(update={"heartbeat_unix_time": attempt.unix_time + 10}).save(tmp_path)
    end = settle_end(tmp_path, -9)
    assert (end.attempt, end.cause, end.code, end.step) == (1, Cause.LOST, -9, 40)
    assert (end.host, end.job, end.message) == (attempt.host, "17_0/1", "killed by signal 9")
    assert end.seconds == pytest.approx(10) and end.train_seconds == 8.0
    assert read_ends(tmp_path).all == (end,)


def test_what_a_scheduler_knows_replaces_what_the_run_said(tmp_path: Path) -> None:
    """The run saved and left at a signal; that it was the time limit's only the scheduler knows."""
    told(tmp_path, Cause.PREEMPTED)
    end = settle_end(tmp_path, PREEMPTED, cause=Cause.OUT_OF_TIME)
    assert [known.cause for known in read_ends(tmp_path).all] == [Cause.OUT_OF_TIME]
    assert end.attempt == 1 and end.message == "said by itself"


def test_nothing_is_written_of_a_process_that_found_the_run_held_or_done(tmp_path: Path) -> None:
    assert settle_end(tmp_path, BUSY).cause is Cause.BUSY
    assert read_ends(tmp_path).all == ()
    own = told(tmp_path, Cause.DONE)
    assert settle_end(tmp_path, DONE, begun_after=1).cause is Cause.DONE
    assert read_ends(tmp_path).all == (own,)


@pytest.mark.parametrize("known_by", ["begun_after", "job"])
@pytest.mark.parametrize("earlier", [Cause.PREEMPTED, Cause.LOST])
def test_a_process_that_died_before_it_had_a_number_is_an_end_of_its_own(
    earlier: Cause, known_by: str, tmp_path: Path
) -> None:
    """The end of the attempt before it is not taken for its own: the run would be started again without end."""
    first = told(tmp_path, earlier, "17_0/0")
    words = {"begun_after": 1} if known_by == "begun_after" else {"job": "17_0/1"}
    end = settle_end(tmp_path, BAD_INPUT, **words)  # type: ignore[arg-type]
    assert (end.attempt, end.cause) == (0, Cause.BAD_INPUT)
    assert read_ends(tmp_path).all == (first, end)
    assert decide(read_ends(tmp_path).counted, retries=2).verdict is Verdict.GIVE_UP
    for _ in range(2):
        settle_end(tmp_path, MACHINE_TROUBLE, **words)  # type: ignore[arg-type]
    assert len(read_ends(tmp_path).all) == 4, "each start that came to nothing counts"


def test_a_job_by_its_short_name_means_all_its_restarts(tmp_path: Path) -> None:
    own = told(tmp_path, Cause.PREEMPTED, "17_0/3")
    assert settle_end(tmp_path, None, cause=Cause.CANCELLED, job="17_0").attempt == own.attempt
    assert settle_end(tmp_path, None, cause=Cause.CANCELLED, job="17_1").attempt == 0


def test_the_gravest_word_of_another_process_is_the_cause(tmp_path: Path) -> None:
    claim_attempt(tmp_path)
    report_failure(tmp_path, RankFailure(1, Cause.MACHINE_TROUBLE, "no GPU"))
    report_failure(tmp_path, RankFailure(3, Cause.FAILED, "a defect"))
    end = settle_end(tmp_path, -9)
    assert (end.cause, end.message) == (Cause.FAILED, "process 1: no GPU; process 3: a defect")


def test_words_of_an_earlier_start_are_no_reason_of_one_that_claimed_nothing(tmp_path: Path) -> None:
    told(tmp_path, Cause.PREEMPTED)
    report_failure(tmp_path, RankFailure(1, Cause.FAILED, "a defect"))
    assert settle_end(tmp_path, -9, begun_after=1).cause is Cause.LOST


def test_torn_and_damaged_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    first = told(tmp_path, Cause.LOST)
    path = RunDir(tmp_path).ends
    damaged = path.read_bytes().replace(b'"lost"', b'"done"')
    path.write_bytes(path.read_bytes() + damaged + b"[3]\n" + damaged[:20])
    second = told(tmp_path, Cause.PREEMPTED)
    ends = read_ends(tmp_path)
    assert (ends.all, ends.num_damaged) == ((first, second), 3)


def test_who_asks_again_begins_a_new_budget_and_asking_twice_is_asking_once(tmp_path: Path) -> None:
    first = told(tmp_path, Cause.LOST)
    for _ in range(2):
        forgive(tmp_path)
    ends = read_ends(tmp_path)
    assert (ends.all, ends.counted, ends.last, ends.is_forgiven) == ((first,), (), None, True)
    assert len(RunDir(tmp_path).ends.read_bytes().splitlines()) == 2
    second = told(tmp_path, Cause.LOST)
    assert read_ends(tmp_path).counted == (second,) and not read_ends(tmp_path).is_forgiven


def test_an_end_reads_back_as_it_was_written(tmp_path: Path) -> None:
    for number, cause in enumerate(Cause, 1):
        end = End(attempt=number, cause=cause, code=-9, step=3, host="n1", message='a "word"\n', unix_time=time.time())
        append_end(tmp_path, end)
        assert read_ends(tmp_path).last == end
