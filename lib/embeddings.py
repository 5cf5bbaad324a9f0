"""Vectors for texts, on record: what an endpoint or a job calls."""

from __future__ import annotations

from lib.providers.embeddings import EmbeddingRequest
from lib.router.embeddings import EmbeddingContext, EmbeddingRouter, Embeddings
from lib.telemetry.events import Bill, Recorder, Subject


async def get_embeddings(
    router: EmbeddingRouter,
    recorder: Recorder,
    request: EmbeddingRequest,
    context: EmbeddingContext,
    subject: Subject,
) -> tuple[Embeddings, Bill]:
    """The vectors of `request`'s texts and what they cost; one event per call to a vendor, however it ends.

    `subject` is of modality "embedding". Raises AppError as EmbeddingRouter.get_embeddings and EmbeddingCall.result do.
    """
    call = router.get_embeddings(request, context)
    try:
        embeddings = await call.result()
    finally:
        bill = await recorder.record(subject, call.attempts)
    return embeddings, bill
