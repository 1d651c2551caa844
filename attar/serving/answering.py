"""Wait for the answer to a request, as long as somebody is there to receive it."""

import asyncio
from concurrent.futures import Future
from typing import Any

from starlette.requests import Request

from attar.serving.batcher import Answer
from attar.serving.refusal import Refusal


async def answer(request: Request, future: "Future[Answer]") -> Answer:
    """Return what the batcher answers.

    When the client leaves, or the caller gives up, rows that do not run yet are taken out of the queue.

    Raises:
        Refusal: 499, which nobody reads, for a client that left.
    """
    work: asyncio.Future[Any] = asyncio.wrap_future(future)
    gone: asyncio.Future[Any] = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            found: Answer = work.result()
            return found
        raise Refusal(499, "the client left before it was answered")
    finally:
        gone.cancel()
        future.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
