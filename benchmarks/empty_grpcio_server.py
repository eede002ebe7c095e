# SPDX-License-Identifier: Apache-2.0
"""A grpcio server whose CheckQuota does nothing: what Python alone costs on the request path."""

import asyncio
import signal

import grpc

from taximeter.v1 import metering_service_pb2, metering_service_pb2_grpc


class EmptyMetering(metering_service_pb2_grpc.MeteringServiceServicer):
    """Answers CheckQuota with an empty message."""

    async def CheckQuota(  # noqa: N802 (the name of the method)
        self,
        request: metering_service_pb2.CheckQuotaRequest,  # noqa: ARG002 (the interface)
        context: "grpc.aio.ServicerContext[metering_service_pb2.CheckQuotaRequest, metering_service_pb2.CheckQuotaResponse]",  # noqa: ARG002, E501
    ) -> metering_service_pb2.CheckQuotaResponse:
        """Answer at once."""
        return metering_service_pb2.CheckQuotaResponse()


async def serve() -> None:
    """Serve on a free loopback port until SIGTERM."""
    server = grpc.aio.server()
    metering_service_pb2_grpc.add_MeteringServiceServicer_to_server(EmptyMetering(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(f"serving on 127.0.0.1:{port}", flush=True)
    await stopped.wait()
    await server.stop(1)


if __name__ == "__main__":
    asyncio.run(serve())
