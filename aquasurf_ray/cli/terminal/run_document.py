"""The state of a run as one document, for JSON and for tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aquasurf_ray.analysis.studies.headline import best_of_run
from aquasurf_ray.analysis.studies.run_origin import computes_spectra, how_to_continue
from aquasurf_ray.cli.terminal.leaderboard import best_board
from aquasurf_ray.cli.terminal.open_store import open_store, store_option

if TYPE_CHECKING:
    import aquasurf_ray.store as stored
    from aquasurf_ray.analysis.studies.headline import Headline

FAILURE_COLUMNS = ("function", "seed", "recipe_change", "attempts", "error")
DIVERGENCE_COLUMNS = ("function", "seed", "recipe_change", "reason")


def run_document(name: str, store: str | None) -> dict[str, Any]:
    """Return the state of a run, its settings and its leaderboard."""
    with open_store(store) as opened:
        run = opened.run(name)
        status, board = opened.status(run.id), best_board(opened, run, 10)
        best = best_of_run(opened, status)
    return {
        **status_document(status, best, store_option(store)),
        "settings": run_settings(run),
        "leaderboard": board.documents(),
    }


def _holder(run: stored.Run, where: str) -> str | None:
    """Return the process that holds the run's lease and, if it has died, the command to resume, with `where`."""
    from aquasurf_ray.store import is_dead

    owner = run.lease_owner
    if owner is None:
        return None
    gone = f"; it has died; resume with: {how_to_continue(run.name, run.config, where)}" if is_dead(owner) else ""
    return f"{owner.host} pid {owner.pid}{gone}"


def status_document(status: stored.RunStatus, best: Headline | None, where: str) -> dict[str, Any]:
    """Return the state of a run with its best function; `where` is the option that names its store in a suggested
    command. `best` is a confirmed mean if `best_confirmed` says over how many seeds and on which split, and a
    mean over `best_seeds` of the run itself if that is known."""
    run, counts = status.run, status.by_status
    return {
        "run": run.name,
        "kind": run.kind,
        "task": status.task.name,
        "status": run.status,
        "message": run.message,
        "evaluations": status.finished,
        "finished_baselines": status.finished_baselines,
        "wanted": status.wanted,  # with the baselines, as `evaluations`
        "budget": run.budget,
        "baselines": sum(n for (origin, _), n in status.by_origin.items() if origin == "baseline"),
        "running": counts.get("running", 0),
        "queued": counts.get("queued", 0),
        "diverged": status.diverged,
        "failed": counts.get("failed", 0),
        "failures": [_failure_document(request) for request in status.failures],
        "divergences": [_divergence_document(request) for request in status.divergences],
        "exhausted": status.exhausted,
        "reused": status.reused,
        "stopped_early": status.stopped_early,
        "candidates": status.n_candidates,
        # Together: both need no further work, and the share of candidates that are prepared is what people wait for.
        "spectra": status.spectra_done + status.spectra_diverged if computes_spectra(run.kind, run.config) else None,
        "metric": (best.metric if best else status.task.metric).name,
        "best": best.value if best else None,
        "best_score": best.score if best else None,
        "best_confirmed": best.confirmed if best else None,
        "best_function": best.function if best else None,
        "best_is_baseline": best.row.baseline if best else None,
        "best_seeds": best.averaged if best else None,
        "best_noise": best.noise if best else None,
        "best_recipe_change": best.recipe_change or None if best else None,
        "held_by": _holder(run, where),
        "seed": run.seed,
        "code_version": run.code_version,
        "created": run.created_at.isoformat(timespec="seconds"),
        "updated": run.updated_at.isoformat(timespec="seconds"),
    }


def run_settings(run: stored.Run) -> dict[str, Any]:
    """Return the settings that the run was created with, except the address, which may contain a password."""
    from aquasurf_ray.driver.settings.models import SearchConfig

    # A stored configuration also has keys that are not settings of this version: of the run's kind, or of another
    # version.
    return {key: value for key, value in run.config.items() if key in SearchConfig.model_fields and key != "address"}


def _failure_document(request: stored.RequestedEvaluation) -> dict[str, Any]:
    evaluation = request.evaluation
    values = (*_training_key(request), evaluation.attempts, evaluation.error)
    return dict(zip(FAILURE_COLUMNS, values, strict=True))


def _divergence_document(request: stored.RequestedEvaluation) -> dict[str, Any]:
    return dict(zip(DIVERGENCE_COLUMNS, (*_training_key(request), request.evaluation.reason), strict=True))


def _training_key(request: stored.RequestedEvaluation) -> tuple[str, int, str | None]:
    return request.function, request.evaluation.seed, request.evaluation.recipe_change or None
