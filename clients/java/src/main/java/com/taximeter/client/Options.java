// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

/**
 * Where the server is and which key to send. What is null is taken from the environment (TAXIMETER_URL, TAXIMETER_KEY,
 * TAXIMETER_CA_FILE), and then from the data directory of a server on this machine (TAXIMETER_DATA, or
 * ~/.local/share/taximeter), which leaves its address and admin key there.
 *
 * @param url http://host:port, https://host:port, or host:port: then plain text on this machine, and TLS elsewhere
 * @param key API key, "tx_..."
 * @param caFile file with the certificates to trust instead of the built-in ones, PEM
 */
public record Options(String url, String key, String caFile) {
  /** Everything from the environment and this machine. */
  public static Options ofEnvironment() {
    return new Options(null, null, null);
  }

  /** A server and a key. */
  public static Options of(String url, String key) {
    return new Options(url, key, null);
  }

  /** The key is left out. */
  @Override
  public String toString() {
    return "Options[url=" + url + ", caFile=" + caFile + "]";
  }
}
