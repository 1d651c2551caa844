"""The OpenAPI description, with the server's own limits in it.

Written by hand: bodies are checked by :mod:`attar.serving.body`, whose messages name the place and the limit.
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from attar.serving.body import MAX_NAME
from attar.serving.settings import ServeConfig
from attar.serving.tokens import Tokens

_ERRORS = {
    "400": "The body is not valid JSON.",
    "401": "The token is missing or wrong.",
    "403": "The server was started without an admin token.",
    "404": "No task of this name.",
    "405": "The address has other methods.",
    "409": "The name is taken, or the task cannot be removed.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "422": "The request asks for what cannot be done; the message says where.",
    "429": "The queue is full; Retry-After says when to come back.",
    "503": "Not answered in time, or the server is stopping.",
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_STATUS = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
_TASK = {
    "type": "object",
    "required": ["name", "kind", "labels", "pairs", "from"],
    "properties": {
        "name": {"type": "string"},
        "kind": {"enum": ["single-label", "multi-label", "regression", "token"]},
        "labels": {"type": "array", "items": {"type": "string"}},
        "pairs": {"type": "boolean", "description": "Whether it labels pairs of texts."},
        "from": {"enum": ["bundle", "delta"]},
    },
    "example": {
        "name": "sentiment",
        "kind": "single-label",
        "labels": ["neg", "pos"],
        "pairs": False,
        "from": "bundle",
    },
}
_LABEL = "A name; a list of names (multi-label), a number (regression), one name a word (token; null beyond the limit)."
_PREDICTION = {
    "type": "object",
    "required": ["label", "confidence", "scores"],
    "properties": {
        "label": {"description": _LABEL},
        "confidence": {"description": "The probability of the label; a list for token, null for regression."},
        "scores": {
            "type": "object",
            "additionalProperties": {"type": "number"},
            "description": "The probability of every label.",
        },
    },
}
_PREDICTIONS = {
    "type": "object",
    "required": ["predictions", "milliseconds"],
    "properties": {
        "predictions": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
            "description": "By task, in the order of the texts.",
        },
        "milliseconds": {
            "type": "object",
            "properties": {
                "waited": {"type": "number", "description": "In the queue."},
                "computed": {"type": "number", "description": "In batches, which other requests may have shared."},
            },
        },
    },
    "example": {
        "predictions": {"sentiment": [{"label": "pos", "confidence": 0.98, "scores": {"neg": 0.02, "pos": 0.98}}]},
        "milliseconds": {"waited": 1.2, "computed": 9.7},
    },
}
_TASKS = {
    "type": "object",
    "required": ["tasks", "change"],
    "properties": {
        "tasks": {"type": "array", "items": {"$ref": "#/components/schemas/Task"}},
        "change": {"type": "boolean", "description": "Whether there is an admin token."},
    },
}
_DELTA_EXAMPLES = {"a delta": {"value": {"name": "topic", "delta": "topic-v2"}}}
_EXAMPLES = {
    "one text": {"value": {"texts": "a great film", "tasks": "sentiment"}},
    "several texts, several tasks": {
        "value": {"texts": ["a great film", "what a waste of time"], "tasks": ["sentiment", "topic"]}
    },
    "pairs": {"value": {"texts": ["It rains."], "pairs": ["The street is wet."], "tasks": "entails"}},
    "words": {"value": {"texts": [["Anna", "met", "Bob"]], "tasks": "names"}},
}


def describe(config: ServeConfig, tokens: Tokens) -> dict[str, Any]:
    """Return the OpenAPI document of a server."""
    user, admin = tokens.user is not None, tokens.admin is not None
    denied, refused = ["401"] if user else [], ["401"] if admin else ["403"]
    body = ["400", "413", "415", "422", "429"]
    state = {code: _described("ok, or why not", _STATUS) for code in ("200", "503")}
    metrics = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    removed = {"type": "object", "required": ["removed"], "properties": {"removed": {"type": "string"}}}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    predict = _operation(
        "Ask one or several tasks about texts",
        {"200": _described("What each task says of each text.", _reference("Predictions"))},
        [*body, *denied, "404", "503"],
        user,
    )
    tasks = _operation(
        "List the tasks", {"200": _described("The tasks, and whether they can be changed.", _TASKS)}, denied, user
    )
    add = _operation(
        "Add a delta",
        {"201": _described("The task that was added.", _reference("Task"))},
        [*body, *refused, "409", "503"],
        admin,
    )
    remove = _operation(
        "Remove a delta",
        {"200": _described("The name that is free again.", removed)},
        [*refused, "404", "409", "503"],
        admin,
    )
    paths = {
        "/v1/predict": {"post": {**predict, "requestBody": _json(_predict_schema(config), _EXAMPLES)}},
        "/v1/tasks": {"get": tasks, "post": {**add, "requestBody": _json(_delta_schema(), _DELTA_EXAMPLES)}},
        "/v1/tasks/{name}": {"delete": {**remove, "parameters": [name]}},
        "/health": {"get": _operation("Whether the models run", state)},
        "/ready": {"get": _operation("Whether to send requests here", state)},
        "/metrics": {"get": _operation("Metrics", {"200": metrics}, denied, user)},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "attar serve", "version": _version(), "description": "Text models over HTTP."},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR, "Task": _TASK, "Prediction": _PREDICTION, "Predictions": _PREDICTIONS},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    summary: str, answers: dict[str, Any], errors: Sequence[str] = (), secured: bool = False
) -> dict[str, Any]:
    refusals = {code: _described(_ERRORS[code], _reference("Error")) for code in errors}
    security: dict[str, Any] = {"security": [{"bearer": []}]} if secured else {}
    return {"summary": summary, "responses": {**answers, **refusals}, **security}


def _described(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _json(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _version() -> str:
    try:
        return version("attar")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0"


def _predict_schema(config: ServeConfig) -> dict[str, Any]:
    # At least one character that is no white space, and no NUL.
    text = {"type": "string", "maxLength": config.max_characters, "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"}
    words = {"type": "array", "items": text, "minItems": 1, "description": "For token classification."}
    many = {"type": "array", "minItems": 1, "maxItems": config.max_texts}
    limits = f"At most {config.max_texts} texts times tasks, each of at most {config.max_characters} characters"
    limits += f" and {config.max_tokens} tokens." if config.max_tokens else "."
    name = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["texts"],
        "additionalProperties": False,
        "properties": {
            "texts": {"description": limits, "anyOf": [text, {**many, "items": {"anyOf": [text, words]}}]},
            "pairs": {
                "description": "The second texts, for tasks that label pairs; as many as texts.",
                "anyOf": [text, {**many, "items": text}, {"type": "null"}],
            },
            "tasks": {
                "description": "Names, each once; may be left out where the server has one task.",
                "anyOf": [name, {**many, "items": name, "uniqueItems": True}, {"type": "null"}],
            },
        },
    }


def _delta_schema() -> dict[str, Any]:
    name = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
    folder = {**name, "description": "Folder within --deltas; by default the name."}
    return {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {"name": name, "delta": {"anyOf": [folder, {"type": "null"}]}},
    }
