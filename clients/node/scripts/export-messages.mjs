// SPDX-License-Identifier: Apache-2.0
// Writes the module that exports every generated message of the API, so that none is forgotten.
import { readdirSync, writeFileSync } from "node:fs";

const folder = new URL("../src/gen/", import.meta.url);
const lines = readdirSync(new URL("taximeter/v1/", folder))
  .sort()
  .map((file) => `export * from "./taximeter/v1/${file.replace(/\.ts$/, ".js")}";\n`);
writeFileSync(new URL("api.ts", folder), lines.join(""));
