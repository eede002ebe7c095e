# SPDX-License-Identifier: Apache-2.0
"""The gRPC services. Nothing outside this package imports grpc or protobuf.

One file per service; ``convert`` turns messages into values and back, ``status`` turns errors into statuses, and
``server`` binds it all to a Unix socket. Callers come through the native front, which has authenticated them.
"""
