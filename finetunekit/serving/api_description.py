"""What the server offers, in OpenAPI 3.1, and a page that shows it without asking anybody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetunekit._version import __version__

_ERROR = {"$ref": "#/components/schemas/Error"}
_PHOTOS = {
    "image/*": {"schema": {"type": "string", "format": "binary"}},
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"photos": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        }
    },
    "application/json": {"schema": {"$ref": "#/components/schemas/Images"}},
}
_WRONG = {
    "400": "The request cannot be read.",
    "401": "The token is missing or wrong.",
    "403": "The server is not called by that name, or another site's page asks.",
    "413": "The request is too large.",
    "422": "No photo of the request can be read.",
    "503": "The server is busy; Retry-After says when to come again.",
    "504": "The request took too long.",
}
_SCHEMAS: dict[str, Any] = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "Images": {
        "type": "object",
        "required": ["images"],
        "properties": {
            "images": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {
                        "name": {"type": "string"},
                        "data": {"type": "string", "contentEncoding": "base64", "description": "A photo's file."},
                    },
                },
            }
        },
    },
    "Prediction": {
        "type": "object",
        "required": ["name"],
        "description": "Either an answer or, where the photo cannot be read, an error.",
        "properties": {
            "name": {"type": "string", "description": "As it was sent."},
            "label": {
                "type": ["string", "null"],
                "description": "The most probable class; null where its probability is too low.",
            },
            "probability": {"type": "number", "description": "Of the most probable class, calibrated."},
            "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
            "unlike_p": {
                "type": ["number", "null"],
                "description": "How rarely a photo is as unlike the training photos; null where the model cannot tell.",
            },
            "is_unlike": {"type": "boolean", "description": "Whether the photo may show none of the classes."},
            "class_set": {
                "type": ["array", "null"],
                "items": {"type": "string"},
                "description": "The classes that are kept at the coverage asked for.",
            },
            "error": {"type": "string"},
        },
    },
    "Predictions": {
        "type": "object",
        "required": ["model", "predictions"],
        "properties": {
            "model": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
            },
            "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
        },
    },
    "Explanation": {
        "type": "object",
        "required": ["label", "map", "window", "picture"],
        "properties": {
            "label": {"type": "string"},
            "map": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "window": {
                "type": "object",
                "description": "The part of the photo that the map lies over, in shares of its sides.",
                "properties": {name: {"type": "number"} for name in ("top", "left", "height", "width")},
            },
            "picture": {"type": "string", "description": "The map as a data URL of a PNG, to be laid over the photo."},
        },
    },
    "Model": {
        "type": "object",
        "required": ["name", "version", "classes"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "classes": {"type": "array", "items": {"type": "string"}},
            "size_px": {"type": "integer"},
            "runtime": {"type": "string"},
            "words": {"type": "array", "items": {"type": "string"}, "description": "How good it is, and on what."},
            "licence": {"type": "string"},
            "attribution": {"type": "string"},
            "can_explain": {"type": "boolean"},
        },
    },
}


def _answer(words: str, schema: str | None = None) -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}} if schema else {"schema": {"type": "object"}}
    return {"description": words, "content": {"application/json": content}}


def _operation(
    summary: str, good: dict[str, Any], *, wrong: tuple[str, ...] = ("401", "403"), **more: Any
) -> dict[str, Any]:
    bad = {
        status: {"description": _WRONG[status], "content": {"application/json": {"schema": _ERROR}}} for status in wrong
    }
    return {"summary": summary, "responses": {"200": good, **bad}, **more}


def _query(name: str, words: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": words, "schema": schema}


def api_description() -> dict[str, Any]:
    """The interface as an OpenAPI document."""
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    tensors = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    photos = {"required": True, "content": _PHOTOS}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "finetunekit",
            "version": __version__,
            "description": "An image classifier. Photos are not kept.",
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/v1/predict": {
                "post": _operation(
                    "Predict photos",
                    _answer("An answer for each photo, in the order sent.", "Predictions"),
                    wrong=tuple(_WRONG),
                    requestBody=photos,
                    parameters=[
                        _query("abstain_below", "Give no label below this probability.", share),
                        _query(
                            "abstain_unlike", "Give no label to photos unlike any training photo.", {"type": "boolean"}
                        ),
                        _query("coverage", "Give a set of classes that holds the true one so often.", share),
                    ],
                )
            },
            "/v1/explain": {
                "post": _operation(
                    "Say where in a photo a class was found (Grad-CAM)",
                    _answer("A map over the network's square.", "Explanation"),
                    wrong=tuple(_WRONG),
                    requestBody=photos,
                    parameters=[_query("label", "The class; default: the most probable one.", {"type": "string"})],
                )
            },
            "/v1/model": {"get": _operation("Say what the model is and how good", _answer("The model.", "Model"))},
            "/v2": {"get": _operation("Open Inference Protocol: the server", _answer("Name and version."))},
            "/v2/health/live": {"get": _operation("Whether the server runs", _answer("It does."), wrong=())},
            "/v2/health/ready": {"get": _operation("Whether it answers photos", _answer("It does."), wrong=())},
            "/v2/models/{name}": {
                "get": _operation("Open Inference Protocol: inputs and outputs", _answer("Tensors."), parameters=[name])
            },
            "/v2/models/{name}/ready": {
                "get": _operation("Whether the model answers", _answer("It does."), parameters=[name])
            },
            "/v2/models/{name}/infer": {
                "post": _operation(
                    "Open Inference Protocol: predict",
                    _answer("Tensors `probabilities` and `label`."),
                    wrong=tuple(_WRONG),
                    requestBody=tensors,
                    parameters=[name],
                )
            },
            "/metrics": {
                "get": {
                    "summary": "Counts for Prometheus",
                    "responses": {"200": {"description": "In its text format.", "content": {"text/plain": {}}}},
                }
            },
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed where the server was started with one.",
                }
            },
        },
    }


def api_json() -> bytes:
    """What `GET /openapi.json` gives."""
    return json.dumps(api_description()).encode()


def api_page() -> bytes:
    """The page at `/docs`."""
    from finetunekit.reports.pages import render

    return render(Path(__file__).with_name("page") / "docs.html", described=api_description()).encode()
