"""Runs mirrored in Weights & Biases: ``--wandb online`` or ``--wandb offline``.

What is sent is read from the ledger, which stays the only truth: nothing that goes wrong here touches a run. A
run's id there is its id here, so a run that is continued continues its curve.
"""

import contextlib
import os
import shlex
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.checkpoints import list_checkpoints
from benchmark.errors import UserError
from benchmark.ledger import RunFolder
from benchmark.specs import to_dict

OFF, MODES = "off", ("off", "online", "offline")
LONGEST_NAME = 128
SECONDS_TO_ANSWER = 5
SECONDS_TO_CONNECT = 10
SECONDS_TO_FINISH = 10
SECONDS_TO_FORGET = 3
SUMMARY = {
    "status": "status",
    "test_error": "test_error",
    "test_top5_error": "test_top5_error",
    "test_loss": "test_loss",
    "best_eval_error": "best_eval_error",
    "parameters": "parameters",
    "multiply_adds": "multiply_adds",
    "epochs": "epochs",
    "seconds": "total_seconds",
    "images_per_second": "images_per_second",
    "peak_memory_bytes": "peak_memory_bytes",
    "joules": "total_joules",
}
"""Fields of the record and what W&B calls them; ``seconds`` of an epoch is a metric there."""


@dataclass(frozen=True)
class TrackingOptions:
    """``mode`` is a name of ``MODES``; ``entity`` None is the user's default one."""

    mode: str = OFF
    project: str = "optimizer-inspired-networks"
    entity: str | None = None

    def __post_init__(self) -> None:
        """Raises:
        UserError: unknown mode.
        """
        if self.mode not in MODES:
            raise UserError(f"unknown --wandb {self.mode!r}; valid: {', '.join(MODES)}")


class Tracker:
    """One run after another: ``start``, ``epoch`` after each epoch, ``end``; after all of them ``table``.

    Group = experiment, job type = cell. A server that cannot be reached costs one warning and one wait; what
    follows is kept offline, for ``wandb sync``. If W&B itself fails, a run goes on without it.
    """

    def __init__(self, options: TrackingOptions, results: Path) -> None:
        self.options, self.results, self.mode = options, results, options.mode
        self.run: Any = None
        self.folder: RunFolder | None = None
        self.logged = -1

    def start(self, folder: RunFolder, label: str) -> None:
        """A run begins, or goes on."""
        cell = folder.cell
        self.folder, self.logged = folder, -1
        tags = [cell.profile, cell.dataset, cell.network.name, *(["smoke"] if cell.recipe.limit_batches else [])]
        self._open(
            id=_short(folder.id),
            name=label,
            group=cell.experiment,
            job_type=cell.name,
            tags=list(dict.fromkeys(tags)),
            config={**to_dict(cell), "seed": folder.seed},
        )

    def epoch(self) -> None:
        """Send the rows of metrics that the ledger has and W&B has not."""
        if self.run is None:
            return
        rows = [row for row in self.folder.read_metrics() if row["epoch"] > self.logged]
        for row in rows:
            self._try(self.run.log, row, step=int(row["epoch"]))
            self.logged = row["epoch"]
            if self.run is None:
                return

    def end(self, result: dict[str, Any]) -> None:
        """Send what is left, the final numbers and the final weights."""
        self.epoch()
        if self.run is None:
            return
        final = {theirs: result[ours] for ours, theirs in SUMMARY.items() if result.get(ours) is not None}
        self._try(self.run.summary.update, final)
        if self.run is None:
            return
        if result["status"] == "done":
            self._send_weights()
        self._finish(result["status"] == "done")

    def table(self, experiment: str, results: Path) -> None:
        """The grid, one line a run, as a run of its own."""
        self._open(id=f"{experiment}-table", name="table", group=experiment, job_type="table")
        if self.run is not None:
            self._try(self._send_table, experiment, results)
            self._finish(True)

    def _send_weights(self) -> None:
        """Without them a run still is one."""
        import wandb

        if not (weights := list_checkpoints(self.folder.checkpoints)):
            return
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{self.folder.id}-weights")
        try:
            artifact = wandb.Artifact(_short(name), "model")
            artifact.add_file(str(weights[-1]))
            self.run.log_artifact(artifact)
        except Exception as error:
            _warn(f"{_reason(error)}; the weights of {self.folder.id} are not sent")

    def _send_table(self, experiment: str, results: Path) -> None:
        import wandb

        from benchmark.report import load_results

        frame = load_results(results, experiment)
        text = frame.astype(object).where(frame.notna(), None)
        self.run.log({"runs": wandb.Table(dataframe=text)})

    def _open(self, **identity: Any) -> None:
        if self.mode == OFF:
            return None
        try:
            if self.mode == "online":
                _check_server()
            self.run = self._init(self.mode, **identity)
        except Exception as error:
            if self.mode != "online":
                return self._give_up(error)
            _within(SECONDS_TO_FORGET, _forget_failed_run)
            self._go_offline(_reason(error))
            self._open(**identity)

    def _init(self, mode: str, **identity: Any) -> Any:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        _disable_analytics()
        settings = wandb.Settings(
            console="off",
            silent=True,
            init_timeout=SECONDS_TO_CONNECT,
            disable_code=True,
            disable_git=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
        )
        run = wandb.init(
            project=self.options.project,
            entity=self.options.entity,
            mode=mode,
            dir=str(self.results),
            resume="allow",
            settings=settings,
            **identity,
        )
        run.define_metric("*", step_metric="epoch")
        return run

    def _try(self, action: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        try:
            action(*arguments, **options)
        except Exception as error:
            self._give_up(error)

    def _finish(self, success: bool) -> None:
        """Within a time: a server that went away must not hold up the grid."""
        run, self.run = self.run, None
        if run is None:
            return
        try:
            if not _within(SECONDS_TO_FINISH, lambda: run.finish(exit_code=0 if success else 1)):
                _within(SECONDS_TO_FORGET, _forget_failed_run)
                self._go_offline(f"{run.name}: not sent in {SECONDS_TO_FINISH} s")
        except Exception as error:
            self._give_up(error)

    def _go_offline(self, reason: str) -> None:
        self.mode = "offline"
        runs = f"{shlex.quote(str(self.results))}/wandb/offline-run-*"
        _warn(f"{reason}; runs are kept offline, `wandb sync {runs}` sends them later")

    def _give_up(self, error: Exception) -> None:
        self.run, self.mode = None, OFF
        _warn(f"{_reason(error)}; going on without it, the ledger has everything")


def _check_server() -> None:
    """One request with a limit, as W&B itself would wait for half a minute, at its start and again at its end.

    Raises:
        OSError: the server cannot be reached or does not answer; any answer will do.
    """
    import wandb

    url = wandb.setup().settings.base_url
    if not _within(SECONDS_TO_ANSWER, lambda: _request(url)):
        raise TimeoutError(f"{url} does not answer within {SECONDS_TO_ANSWER} s")


def _request(url: str) -> None:
    """Raises:
    OSError: no connection, or it is closed without an answer.
    """
    try:
        urllib.request.urlopen(url, timeout=SECONDS_TO_ANSWER).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # W&B has its own certificates and settings
            raise ConnectionError(f"{url} cannot be reached: {error.reason}") from error


def _within(seconds: float, action: Callable[[], Any]) -> bool:
    """Whether it ended in time; in a thread, as not all that waits has a limit. Raises what it raises."""
    errors: list[Exception] = []

    def act() -> None:
        try:
            action()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    return not thread.is_alive()


def _disable_analytics() -> None:
    """Of W&B itself, which waits for them at exit; versions without have nothing to turn off."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    with contextlib.suppress(Exception):
        from wandb.analytics.opentelemetry import opentelemetry_proxy

        opentelemetry_proxy.disable()


def _forget_failed_run() -> None:
    """Or W&B would say that the id is in use."""
    with contextlib.suppress(Exception):
        import wandb

        wandb.teardown()


def _short(name: str) -> str:
    """As long as W&B allows; the end has the hash that tells runs apart."""
    return name[-LONGEST_NAME:].lstrip("-_.")


def _reason(error: Exception) -> str:
    """The first sentence."""
    return " ".join(str(error).split(". ")[0].split()) or type(error).__name__


def _warn(text: str) -> None:
    print(f"warning: W&B: {text}", file=sys.stderr)
