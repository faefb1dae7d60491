"""How this process comes to a Ray: one of its own on this machine, or a running cluster.

The own one is reached through the loopback device alone, and only by who has the token that is drawn for it. Nothing is
reported to Ray's makers, and what Ray has to say is left out unless it is an error.
"""

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from typing import Any

from scaling.errors import UserError
from scaling.launch.backends.gpus import visible_gpus
from scaling.launch.backends.ray.attempt import LET_SAVE
from scaling.launch.backends.ray.queue import NAMESPACE
from scaling.launch.backends.ray.shape import Node

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
}
"""No usage statistics, no notes on what a later version will do, no logs of nodes and workers on the terminal."""

ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray binds to all interfaces, whatever address it is given, but to the loopback device where it makes no clusters: by
default on Windows and macOS, with this everywhere."""

OBJECT_STORE_BYTES = 80 * 2**20
"""Nothing of size goes through Ray; it wants 75 MB at least."""

REACH_SECONDS = 3.0


class Connection:
    """This process's Ray; `connect` and `disconnect` once each."""

    def __init__(self, address: str | None, *, dashboard: bool) -> None:
        self._asked, self._dashboard = address, dashboard
        self._folder = ""
        self.address = ""
        """Of the head, once connected."""
        self.is_open = False

    @property
    def is_embedded(self) -> bool:
        return self._asked is None

    @property
    def name(self) -> str:
        """For messages."""
        return "this machine" if self.is_embedded else f"the Ray cluster at {self.address or self._asked}"

    def connect(self) -> None:
        """UserError when there is no such cluster, or when it does not take us."""
        if self.is_open:
            return
        _set_variables(is_embedded=self.is_embedded)
        # Ray takes SIGTERM for itself; the launcher answers it.
        handler = signal.getsignal(signal.SIGTERM)
        try:
            context = self._start() if self.is_embedded else self._join()
        finally:
            signal.signal(signal.SIGTERM, handler)
        self.address, self.is_open = context.address_info["address"], True
        if context.dashboard_url:
            logging.getLogger(__name__).info("Ray's dashboard: http://%s", context.dashboard_url)

    def disconnect(self) -> None:
        """Ends the own Ray, and with it whatever it still runs; a cluster stays as it is."""
        import ray

        if self.is_open:
            ray.shutdown()
            self.is_open = False
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def nodes(self) -> list[Node]:
        """The cluster's nodes; of the own Ray also before it is started."""
        if self.is_embedded and not self.is_open:
            return [{"NodeID": "", "Alive": True, "Labels": {}, "Resources": _this_machine()}]
        import ray

        return list(ray.nodes())

    def is_reachable(self) -> bool:
        """Whether the head takes connections."""
        return self.is_embedded or _answers(self.address)

    def _start(self) -> Any:
        import ray

        machine = _this_machine()
        self._folder = tempfile.mkdtemp(prefix="scaling-ray-")
        try:
            return ray.init(
                address="local",
                namespace=NAMESPACE,
                num_cpus=int(machine["CPU"]),
                num_gpus=int(machine["GPU"]),
                include_dashboard=self._dashboard,
                dashboard_host="127.0.0.1",
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
                _memory=int(machine["memory"]),
                _temp_dir=self._folder,
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise UserError(f"launch.backend: ray: Ray does not start on this machine: {_one_line(error)}") from error

    def _join(self) -> Any:
        import ray

        asked = str(self._asked)
        if asked != "auto" and not _answers(asked):
            raise UserError(
                f"launch.ray.address: nobody answers at {asked}; start a cluster there (ray start --head), or leave "
                "the address out for a Ray on this machine"
            )
        try:
            return ray.init(address=asked, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
            raise UserError(
                f"launch.ray.address: {asked} does not take this launcher: {_one_line(error)}; start it on a node of "
                "the cluster, with the cluster's versions of Ray and Python"
            ) from error


def _set_variables(*, is_embedded: bool) -> None:
    """What Ray reads from the environment when it is imported, and passes on to its processes."""
    os.environ.update(QUIET)
    if is_embedded:
        os.environ.update(LET_SAVE | ON_LOOPBACK)
        if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def _this_machine() -> dict[str, float]:
    """The resources of this machine that Ray may schedule."""
    return {
        "CPU": float(len(os.sched_getaffinity(0))),
        "GPU": float(len(visible_gpus())),
        "memory": float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    }


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS):
            return True
    except OSError:
        return False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400].rstrip(".")
