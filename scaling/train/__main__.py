"""`python -m scaling.train RUN_DIR`: train one run, alone or under torchrun, srun or Ray."""

import argparse
import sys
from collections.abc import Sequence

from scaling.errors import run_command
from scaling.records.attempts.contract import Execution
from scaling.train.entry import train_run

EPILOG = """\
examples:
  python -m scaling.train runs/quickstart/mixer-laptop-32px_010pct_s0-1f3a9c2e
  torchrun --standalone --nproc-per-node 2 -m scaling.train runs/data_size/mixer-b32_030pct_s0-1f3a9c2e
  srun --ntasks-per-node 8 --kill-on-bad-exit=0 python -m scaling.train runs/data_size/mixer-b32_030pct_s0-1f3a9c2e

srun's and Open MPI's variables are read, so that their tasks are one run. torchrun forwards SIGUSR1 only when told, and
kills 30 s after SIGTERM, too soon for a large checkpoint:
  torchrun --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 600 ...
torchrun itself reports exit code 3 as a failure, with code 1; the run's records say that it was pre-empted. On machines
with several networks name the one to use: GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME.

exit code: 0 done, 1 failed, 2 bad input, 3 pre-empted with a checkpoint saved, 4 another process trains it.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scaling.train",
        description="Train and score one planned run; started again, it continues from its last checkpoint.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="a folder with run.json, made by scaling.launch")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads of this process (default: the library's choice)"
    )
    parser.add_argument(
        "--loader-threads",
        type=int,
        metavar="N",
        help="threads that decode (default: the cores of this process but those of its arithmetic, at most 16)",
    )
    parser.add_argument(
        "--loader-processes",
        type=int,
        default=0,
        metavar="N",
        help="processes that these threads are spread over (default: 0, none but this one)",
    )
    parser.add_argument(
        "--pixel-cache",
        type=float,
        metavar="GB",
        help="memory of this node for decoded training images, shared by its processes (default: 0.5 for each)",
    )
    parser.add_argument("--log", action="store_true", help="write all output to the run's log.txt, not to the terminal")
    args = parser.parse_args(argv)
    execution = Execution(
        threads=args.threads,
        loader_threads=args.loader_threads,
        loader_processes=args.loader_processes,
        pixel_cache_gb=args.pixel_cache,
    )
    return train_run(args.run_dir, to_terminal=not args.log, execution=execution)


if __name__ == "__main__":
    sys.exit(run_command(main))
