// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { join } from "node:path";

const DEFAULT_URL = "http://127.0.0.1:7460";

/**
 * Where the server is and which key to send. What is left out is taken from the environment (TAXIMETER_URL,
 * TAXIMETER_KEY, TAXIMETER_CA_FILE), and then from the data directory of a server on this machine (TAXIMETER_DATA, or
 * ~/.local/share/taximeter), which leaves its address and admin key there.
 */
export interface Options {
  /** http://host:port, https://host:port, or host:port: then plain text on this machine, and TLS elsewhere. */
  readonly url?: string;
  /** API key, "tx_...". */
  readonly key?: string;
  /** File with the certificates to trust instead of the built-in ones, PEM. */
  readonly caFile?: string;
}

/** Everything needed to reach a server. */
export interface Endpoint {
  readonly target: string;
  readonly key: string;
  readonly isTls: boolean;
  readonly isLoopback: boolean;
  readonly rootsPem: Buffer | null;
}

/** Finds out how to connect. Throws an Error that says what is wrong with the options. */
export function resolveEndpoint(options: Options, environment: NodeJS.ProcessEnv): Endpoint {
  const dataDir =
    environment["TAXIMETER_DATA"] || join(environment["HOME"] ?? "", ".local", "share", "taximeter");
  const url = options.url || environment["TAXIMETER_URL"] || localUrl(dataDir) || DEFAULT_URL;
  const address = parseUrl(url);
  // The admin key of a server here goes to a server here only.
  const localKey = () => (address.isLoopback ? readText(join(dataDir, "admin.key")) : "");
  const caFile = options.caFile || environment["TAXIMETER_CA_FILE"];
  return {
    ...address,
    // An empty key is one that the caller wants empty.
    key: options.key ?? (environment["TAXIMETER_KEY"] || localKey()),
    rootsPem: caFile ? readFileSync(caFile) : null,
  };
}

function localUrl(dataDir: string): string {
  // A server that listens everywhere is reached from this machine by loopback.
  return readText(join(dataDir, "address")).replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
}

function parseUrl(text: string): Pick<Endpoint, "target" | "isTls" | "isLoopback"> {
  const found = /^(?:(https?):\/\/)?(\[[0-9a-fA-F:]+\]|[^\s:/@?#[\]]+)(?::(\d{1,5}))?\/?$/.exec(text);
  const [, scheme, host, named] = found ?? [];
  const port = named ?? { http: "80", https: "443" }[scheme as "http" | "https"];
  if (host === undefined || port === undefined || !(Number(port) > 0 && Number(port) < 65_536)) {
    throw new Error(`${JSON.stringify(text)} is no address of a server: use http://host:port, https://host or host:port`);
  }
  const isLoopback = host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
  return { target: `${host}:${port}`, isTls: scheme === "https" || (scheme === undefined && !isLoopback), isLoopback };
}

/** Returns the text of a file without the white space around it; empty where there is no such file. */
function readText(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}
