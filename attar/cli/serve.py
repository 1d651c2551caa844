"""``attar serve``."""

from typing import Annotated

import typer

from attar.serving.settings import ServeConfig

_DEFAULT = ServeConfig()


def serve(
    bundles: Annotated[
        list[str] | None, typer.Argument(metavar="[BUNDLE | NAME=BUNDLE]...", help="Models to serve.")
    ] = None,
    deltas: Annotated[
        str | None, typer.Option(help="Folder with one delta a subfolder, all of one encoder, which is loaded once.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Where the deltas' encoder is, if it was moved.")] = None,
    host: Annotated[str, typer.Option(help="Address to bind to; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    token_file: Annotated[
        str | None, typer.Option(help="File with the token that clients must show; or set ATTAR_TOKEN.")
    ] = None,
    admin_token_file: Annotated[
        str | None,
        typer.Option(help="File with the token that may add and remove deltas; or set ATTAR_ADMIN_TOKEN."),
    ] = None,
    max_body: Annotated[str, typer.Option(help="Largest request.")] = "4MiB",
    max_texts: Annotated[int, typer.Option(help="Most texts (times tasks) a request.")] = _DEFAULT.max_texts,
    max_characters: Annotated[int, typer.Option(help="Longest text in characters.")] = _DEFAULT.max_characters,
    max_tokens: Annotated[
        int | None, typer.Option(help="Refuse texts of more tokens; by default they are cut at the model's limit.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Most texts that run together.")] = _DEFAULT.batch,
    wait: Annotated[
        float, typer.Option(help="Milliseconds that a text waits for others while the model is idle.")
    ] = 1000 * _DEFAULT.wait,
    queue: Annotated[int, typer.Option(help="Texts that may wait; beyond it clients get 429.")] = _DEFAULT.queue,
    timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = _DEFAULT.timeout,
) -> None:
    """Serve models over HTTP: an API, a page to try them, metrics.

    Example: attar serve student teacher

    Example: attar serve --deltas deltas/ --host 0.0.0.0 --token-file token
    """
    from attar.errors import ConfigError, MissingExtra
    from attar.sizes import parse_size

    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "fastapi", "serve") from error
    try:
        size = parse_size(max_body)
    except ValueError as error:
        raise ConfigError(f"--max-body: {error}") from error
    config = ServeConfig(
        max_body=size,
        max_texts=max_texts,
        max_characters=max_characters,
        max_tokens=max_tokens,
        batch=batch,
        wait=wait / 1000,
        queue=queue,
        timeout=timeout,
    )

    from attar.serving.models import open_models
    from attar.serving.server import serve as run
    from attar.serving.tokens import Tokens, read_token

    tokens = Tokens(user=read_token(token_file, "ATTAR_TOKEN"), admin=read_token(admin_token_file, "ATTAR_ADMIN_TOKEN"))
    models = open_models(bundles or [], deltas, encoder=encoder, max_tokens=max_tokens)
    run(models, config, tokens, host=host, port=port)
