# SPDX-License-Identifier: Apache-2.0
"""A period as one self-contained HTML page: `collect` asks the server, `render` writes the page."""
