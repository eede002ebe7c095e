# SPDX-License-Identifier: Apache-2.0
"""Generated messages and stubs of the taximeter.v1 API; scripts/generate.py makes them."""
