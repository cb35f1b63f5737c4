"""The routes of jobs: their list and what is done with one, and looking at a checkpoint beforehand.

Owns: `/api/jobs` and `/api/inspect`. Does not know how a job runs (`library/jobs`). Handlers read files, so they
run in the thread pool.
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from engine.checkpoint_inspection import inspect
from engine.protocol_jobs import CancelJob, InspectRequest, JobList, StartJob
from engine.server.replies import body_of, reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/api")


@router.get("/jobs")
def jobs(engine: EngineOf) -> Response:
    """The JobList."""
    return reply(JobList(jobs=engine.jobs.entries()))


@router.post("/jobs")
def start(asked: Annotated[StartJob, Depends(body_of(StartJob))], engine: EngineOf) -> Response:
    """Note a job down and begin it when it is its turn: 201 with its Job, a new one or that of the same download."""
    return reply(engine.start_job(asked.asked), 201)


@router.post("/jobs/{job_id}/pause")
def pause(job_id: str, engine: EngineOf) -> Response:
    """Stop it so that it can go on: 202 with the Job; its end comes over `/api/events`."""
    return reply(engine.jobs.pause(job_id), 202)


@router.post("/jobs/{job_id}/resume")
def resume(job_id: str, engine: EngineOf) -> Response:
    """Go on: 202 with the Job."""
    return reply(engine.jobs.resume(job_id), 202)


@router.post("/jobs/{job_id}/cancel")
def cancel(
    job_id: str, asked: Annotated[CancelJob, Depends(body_of(CancelJob))], engine: EngineOf
) -> Response:
    """Give it up: 202 with the Job."""
    return reply(engine.jobs.cancel(job_id, remove_partial=asked.remove_partial), 202)


@router.delete("/jobs/{job_id}")
def forget(job_id: str, engine: EngineOf) -> Response:
    """Take one that is over off the list: 204."""
    engine.jobs.forget(job_id)
    return Response(status_code=204)


@router.post("/inspect")
def look(asked: Annotated[InspectRequest, Depends(body_of(InspectRequest))]) -> Response:
    """The Inspection of a checkpoint's folder."""
    return reply(inspect(asked))
