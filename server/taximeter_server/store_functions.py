# SPDX-License-Identifier: Apache-2.0
"""Scripts as libraries of functions that the store keeps: documents.lua, events.lua."""

import hashlib
import importlib.resources
from typing import Any

import redis


class StoreFunctions:
    """Calls the functions of one library, and loads it where it is missing. Every method raises redis.RedisError."""

    def __init__(self, client: Any, name: str) -> None:
        """name: of the file, without its suffix."""
        source = (importlib.resources.files("taximeter_server") / f"{name}.lua").read_text(encoding="utf-8")
        # The name carries the text's hash: versions never call each other's functions.
        self._library = f"taximeter_{name}_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
        self._source = f"#!lua name={self._library}\n{source.replace('@library@', self._library)}"
        self._client = client

    def call(self, name: str, keys: tuple[str, ...], *arguments: str | int) -> Any:
        """Return what the function answers."""
        command = (f"{self._library}_{name}", len(keys), *keys, *arguments)
        try:
            return self._client.fcall(*command)
        except redis.ResponseError as error:
            if "Function not found" not in str(error):
                raise
        try:
            self._client.function_load(self._source)
        except redis.ResponseError as error:
            # Another instance was first, with the same text.
            if "already exists" not in str(error):
                raise
        return self._client.fcall(*command)
