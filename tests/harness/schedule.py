# SPDX-License-Identifier: Apache-2.0
"""Which tests one process runs when several share the suite: whole files, and all of what builds in one place."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

BUILDING_FOLDER = "tests/clients"
"""Its tests build the clients of other languages, in the tree; two processes at that would trip over each other."""


class FileScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out files, so that what a file shares is made once, and one folder as if it were a file."""

    def _split_scope(self, nodeid: str) -> str:
        return BUILDING_FOLDER if nodeid.startswith(f"{BUILDING_FOLDER}/") else nodeid.split("::", 1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Hand out tests so."""
    return FileScheduling(config, log)
