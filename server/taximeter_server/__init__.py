# SPDX-License-Identifier: Apache-2.0
"""The Taximeter server: meters what AI workloads use, prices it, and decides before each call.

Layout:

* ``command_line``, ``config``, ``serve``: start-up. ``serve`` is the only place that wires parts together.
* ``data_directory``, ``embedded_store``, ``store_launcher``: what the server owns on its machine.
* ``store``: the global documents (keys, tenants, rate cards and their timeline).
* ``keys``, ``tenants``, ``rate_card``, ``rate_card_timeline``, ``catalogue``: what those documents mean.
* ``ledger``, ``archiver``, ``report``: Parquet files and the sums over them.
* ``rpc``: the gRPC services; nothing outside it imports grpc or protobuf.
* ``_native``: the compiled hot path, with its contract in ``_native.pyi``.
"""

__version__ = "0.1.0"
