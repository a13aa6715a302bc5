"""A small model behind HTTP: says what kind of content it is given.

The model is Magika's, an ONNX network of 3 MB that recognises over 200 types of content; onnxruntime runs it.
"""

from __future__ import annotations

import os

from magika import Magika
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CONTENT_BYTES_MAX = 1 << 20

model = Magika()
replica = os.environ.get("REPLICA", "replica")


async def predict(request: Request) -> JSONResponse:
    """`POST /predict` with any bytes as the body: the label of their content, and how sure the model is (0 to 1)."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > CONTENT_BYTES_MAX:
            return JSONResponse({"error": f"send at most {CONTENT_BYTES_MAX} bytes"}, status_code=413)
    # The network computes on a thread: meanwhile the event loop answers others, such as the health checks.
    result = await run_in_threadpool(model.identify_bytes, content)
    return JSONResponse({"label": result.output.label, "score": round(result.score, 4), "replica": replica})


async def health(_request: Request) -> Response:
    return Response()


app = Starlette(routes=[Route("/predict", predict, methods=["POST"]), Route("/health", health)])
