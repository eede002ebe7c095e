// SPDX-License-Identifier: Apache-2.0
// Measures what this client adds to a check: p50 of Client.check beside that of the bare generated messages over gRPC, in
// turns, on one connection each, against the server that the environment names.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client as GrpcClient, Metadata, credentials } from "@grpc/grpc-js";
import { CheckQuotaRequestSchema, CheckQuotaResponseSchema, Client } from "@taximeter/client";

const ROUNDS = Number(process.argv[2] ?? 20);
const CALLS = 500;
const PATH = "/taximeter.v1.MeteringService/CheckQuota";

const client = new Client();
const stub = new GrpcClient(process.env.TAXIMETER_URL.replace("http://", ""), credentials.createInsecure());
const metadata = new Metadata();
metadata.set("authorization", `Bearer ${process.env.TAXIMETER_KEY}`);
const request = { tenant: "overhead", model: "gpt-5" };

const byStub = () =>
  new Promise((resolve, reject) => {
    const done = (error, answer) => (error ? reject(error) : resolve(answer));
    const write = (message) => Buffer.from(toBinary(CheckQuotaRequestSchema, message));
    const read = (bytes) => fromBinary(CheckQuotaResponseSchema, bytes);
    stub.makeUnaryRequest(PATH, write, read, create(CheckQuotaRequestSchema, request), metadata, done);
  });
const byClient = () => client.check(request);

async function measure(call) {
  const times = [];
  for (let i = 0; i < CALLS; i++) {
    const began = process.hrtime.bigint();
    await call();
    times.push(Number(process.hrtime.bigint() - began) / 1_000);
  }
  return times;
}

const times = { stub: [], client: [] };
for (let round = 0; round <= ROUNDS; round++) {
  const [ofStub, ofClient] = [await measure(byStub), await measure(byClient)];
  if (round === 0) continue; // To warm up.
  times.stub.push(...ofStub);
  times.client.push(...ofClient);
}
for (const percent of [50, 99]) {
  const at = (found) => found.sort((one, other) => one - other)[Math.floor((found.length * percent) / 100)];
  const [bare, ours] = [at(times.stub), at(times.client)];
  const added = (ours - bare).toFixed(1);
  console.log(`node p${percent}: stub ${bare.toFixed(0)} us, client ${ours.toFixed(0)} us, client adds ${added} us`);
}
client.close();
stub.close();
