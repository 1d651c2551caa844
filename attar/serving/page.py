"""The page at ``/``: a few files of the package, read once, under a policy that lets nothing else in."""

import mimetypes
from importlib.resources import files

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}


def add_page(app: FastAPI) -> None:
    """Add the routes of the page."""
    content = {file.name: file.read_bytes() for file in (files("attar.serving") / "static").iterdir()}

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return Response(content["index.html"], headers=_HEADERS, media_type="text/html")

    @app.api_route("/static/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in content:
            raise HTTPException(404)
        return Response(content[name], headers=_HEADERS, media_type=mimetypes.guess_type(name)[0])
