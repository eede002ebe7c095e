# SPDX-License-Identifier: Apache-2.0
"""Client of Taximeter, which meters what AI workloads use, prices it, and decides before each call."""
