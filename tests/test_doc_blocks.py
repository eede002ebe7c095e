# SPDX-License-Identifier: Apache-2.0
"""The runner of the documentation's code blocks: it runs what it should, and it bites."""

from pathlib import Path

import pytest

from harness.doc_blocks import BlockFailedError, find_blocks, find_commands, run_blocks
from harness.server_process import clean_environment

PAGE = """Text.

```console
$ echo one \\
    two
one two
$ make run
$ true
```

<!-- not run: it never ends -->
```python
raise SystemExit(1)
```

```yaml
a: 1
```

1. A step:

   ```python
   import os
   assert os.environ["GREETING"] == "hello"
   ```
"""


def run_page(text: str, directory: Path) -> int:
    """Run a page that was made up."""
    page = directory / "page.md"
    page.write_text(text)
    return run_blocks(
        page,
        directory=directory,
        environment=clean_environment({"GREETING": "hello"}),
        replace={"5.6.7.8:9": "here"},
    )


def test_blocks_of_a_page_are_found_and_run(tmp_path: Path) -> None:
    """Blocks run but for those with a reason not to; indented ones are unindented."""
    assert run_page(PAGE, tmp_path) == 2
    assert [block.line for block in find_blocks(PAGE)] == [4, 23]
    assert [command.line for command in find_commands("$ a \\\n  b\nout\n$ c\n")] == ["a    b", "c"]


def test_the_address_of_a_page_is_replaced(tmp_path: Path) -> None:
    """What stands for the server's address becomes the address of the test's server."""
    assert run_page("```console\n$ echo 5.6.7.8:9\nhere\n```\n", tmp_path) == 1


@pytest.mark.parametrize(
    "page",
    [
        "```python\nassert False\n```\n",
        "```python\nimport warnings\nwarnings.warn('old')\n```\n",
        "```console\n$ false\n```\n",
        "```console\n$ false | true\n```\n",
        "```console\n$ echo one\ntwo\n```\n",
        "```console\n$ no-such-command-anywhere\n```\n",
    ],
)
def test_a_page_that_is_wrong_fails(page: str, tmp_path: Path) -> None:
    """A block that fails, warns or gives other output is an error that says where it stands."""
    with pytest.raises(BlockFailedError, match=r"page\.md:2: "):
        run_page(page, tmp_path)
