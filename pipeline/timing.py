"""How long runs took, out of their last heartbeats."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import journal


@dataclass(frozen=True)
class Timing:
    """Time of the shards that were timed: all, but for those of a run that was killed and continued."""

    n_samples: int
    n_ok: int
    wall_s: float  # without the start of Ray
    invert_s: float  # of the model alone, added up over the workers
    n_workers: int  # at most in one run, with those that were replaced
    on_gpu: bool

    @property
    def samples_per_s(self) -> float:
        return self.n_samples / max(self.wall_s, 1e-9)

    @property
    def model_s_per_image(self) -> float:
        """Seconds of one worker's model for one inverted row, all steps."""
        return self.invert_s / max(1, self.n_ok)


def read(out: str, fingerprint: str) -> Timing | None:
    """All runs of a fingerprint added up; None where there is none (copied without them, or by hand)."""
    found = [run for run in journal.runs(out) if run.fingerprint == fingerprint and run.n_samples]
    if not found:
        return None
    workers = [worker for run in found for worker in run.workers]
    return Timing(
        n_samples=sum(run.n_samples for run in found),
        n_ok=sum(run.n_by_status.get("ok", 0) for run in found),
        wall_s=sum(run.seconds for run in found),
        invert_s=sum(run.busy_s.get("invert", 0.0) for run in found),
        n_workers=max(len(run.workers) for run in found),
        on_gpu=all(" gpu " in worker and " gpu none " not in worker for worker in workers),
    )
