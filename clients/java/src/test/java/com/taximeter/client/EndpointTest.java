// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Where the server is. */
class EndpointTest {
  /** An address without a scheme is plain text on this machine and TLS elsewhere. */
  @ParameterizedTest
  @CsvSource({
    "http://example.com:7460, example.com:7460, false, false",
    "https://example.com, example.com:443, true, false",
    "example.com:7460, example.com:7460, true, false",
    "localhost:7460, localhost:7460, false, true",
    "http://[::1]:7460/, [::1]:7460, false, true",
  })
  void addressesAreRead(String url, String target, boolean isTls, boolean isLoopback) {
    Endpoint found = Endpoint.resolve(Options.of(url, "tx_key"), Map.of());

    assertEquals(target, found.target());
    assertEquals(isTls, found.isTls());
    assertEquals(isLoopback, found.isLoopback());
  }

  /** What is no address of a server is refused before anything is sent. */
  @ParameterizedTest
  @ValueSource(strings = {"example.com", "ftp://example.com:1", "http://user@example.com", "http://example.com/path"})
  void badAddressesAreRefused(String url) {
    assertThrows(IllegalArgumentException.class, () -> Endpoint.resolve(Options.of(url, ""), Map.of()));
  }

  /** The admin key of a server on this machine is found, and goes nowhere else. */
  @Test
  void localKeyStaysHere(@TempDir Path data) throws IOException {
    Files.writeString(data.resolve("address"), "0.0.0.0:7461\n");
    Files.writeString(data.resolve("admin.key"), "tx_local\n");
    var here = Endpoint.resolve(Options.ofEnvironment(), Map.of("TAXIMETER_DATA", data.toString()));
    var there = Endpoint.resolve(Options.of("https://example.com", null), Map.of("TAXIMETER_DATA", data.toString()));

    assertEquals("127.0.0.1:7461", here.target());
    assertEquals("tx_local", here.key());
    assertEquals("", there.key());
  }
}
