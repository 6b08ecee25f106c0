"""The same grid on Ray: one actor a device that holds the model, batches of cells as tasks.

Ray is an optional extra. Results are written by the driver, so the folder is that of a serial run;
a worker that dies is started again and its batch with it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from headviz.heads.capture import Progress, no_progress
from headviz.session.open_model import open_model
from headviz.studies.cells import Cell
from headviz.studies.registry import find_experiment
from headviz.studies.request import Request
from headviz.studies.run_cells import Task, batched, run_batch
from headviz.studies.samples import StudyError
from headviz.studies.study import Finished, Study, collect

LOCAL = "local"


class Worker:
    """What an actor holds: the model and the way cells are scored, made from the request."""

    def __init__(self, request: Request, device: str, dtype: str) -> None:
        """Load the model on the device that Ray gave this actor."""
        self._model = open_model(request.model, device, dtype)
        plan = find_experiment(request.study).plan(request, self._model, no_progress)
        self._task = Task(plan.score, plan.max_new_tokens, plan.material.stops)

    def run(self, cells: Sequence[Cell]) -> list[tuple[str, dict[str, Any]]]:
        """(key, result) of each cell of a batch."""
        return [(cell.key, result) for cell, result in run_batch(self._model, cells, self._task)]


def run_on_ray(
    study: Study,
    address: str = LOCAL,
    workers: int = 2,
    progress: Progress = no_progress,
    threads: int = 1,
) -> Finished:
    """Run what is not done yet on a cluster; the same results as `run` gives.

    Args:
        study: as `lay_out` makes it.
        address: `local` for this machine, else that of a running cluster.
        workers: actors where the cluster has no GPUs; with GPUs there is one a GPU.
        progress: may raise Cancelled; finished cells stay.
        threads: CPU cores of an actor.

    Raises:
        StudyError: where Ray is not installed or the cluster cannot be reached.
    """
    ray = _ray()
    try:
        ray.init(address=None if address == LOCAL else address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise StudyError(f"The Ray cluster {address!r} cannot be reached: {error}.") from error
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        options = {"num_cpus": threads, "num_gpus": 1 if gpus else 0, "max_restarts": -1}
        device = "cuda" if gpus else "cpu"
        dtype = str(study.model.dtype).removeprefix("torch.")
        actor = ray.remote(**options, max_task_retries=-1)(Worker)
        pool = [actor.remote(study.request, device, dtype) for _ in range(gpus or workers)]
        batches = batched(study.pending, study.model, study.plan.max_new_tokens)
        for done, results in enumerate(_spread(ray, pool, batches), 1):
            for key, result in results:
                study.folder.write(key, result)
            progress(done / len(batches), f"batch {done} of {len(batches)}, {len(pool)} workers")
    finally:
        ray.shutdown()
    return collect(study)


def _spread(ray: Any, pool: Sequence[Any], batches: Sequence[Sequence[Cell]]) -> Iterator[Any]:
    """Results as they come; a worker gets its next batch when it has done its last."""
    todo = list(reversed(batches))
    running: dict[Any, Any] = {}
    for worker in pool:
        if todo:
            running[worker.run.remote(todo.pop())] = worker
    while running:
        (ready, *_), _ = ray.wait(list(running), num_returns=1)
        worker = running.pop(ready)
        yield ray.get(ready)
        if todo:
            running[worker.run.remote(todo.pop())] = worker


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise StudyError("Several machines need Ray, an optional extra: pip install ray.") from None
    return ray
