// SPDX-License-Identifier: Apache-2.0
// Says of each output folder which module format it is in: node goes by the nearest package.json.
import { writeFileSync } from "node:fs";

for (const [folder, type] of [["esm", "module"], ["cjs", "commonjs"]]) {
  writeFileSync(new URL(`../dist/${folder}/package.json`, import.meta.url), `{"type": "${type}"}\n`);
}
