# SPDX-License-Identifier: Apache-2.0
"""``python -m taximeter_server`` is ``taximeter-server``."""

from taximeter_server.command_line import main

if __name__ == "__main__":
    main()
