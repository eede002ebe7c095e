// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Everything needed to reach a server; key and caFile are empty where there is none. */
record Endpoint(String host, int port, boolean isTls, boolean isLoopback, String key, String caFile) {
  private static final String DEFAULT_URL = "http://127.0.0.1:7460";
  private static final Pattern URL =
      Pattern.compile("(?:(https?)://)?(\\[[0-9a-fA-F:]+]|[^\\s:/@?#\\[\\]]+)(?::(\\d{1,5}))?/?");
  private static final Map<String, Integer> DEFAULT_PORT = Map.of("http", 80, "https", 443);

  /** The key is left out. */
  @Override
  public String toString() {
    return "Endpoint[" + target() + ", isTls=" + isTls + ", caFile=" + caFile + "]";
  }

  String target() {
    return host + ":" + port;
  }

  /** Finds out how to connect. Throws IllegalArgumentException for what is no address of a server. */
  static Endpoint resolve(Options options, Map<String, String> environment) {
    String home = environment.getOrDefault("HOME", "");
    Path dataDir =
        Path.of(first(environment.get("TAXIMETER_DATA"), Path.of(home, ".local/share/taximeter").toString()));
    // A server that listens everywhere is reached from this machine by loopback.
    String local =
        readText(dataDir.resolve("address"))
            .replace("0.0.0.0:", "127.0.0.1:")
            .replace("[::]:", "[::1]:");
    Endpoint address = parse(first(options.url(), environment.get("TAXIMETER_URL"), local, DEFAULT_URL));
    String key = Optional.ofNullable(options.key()).orElse(environment.getOrDefault("TAXIMETER_KEY", ""));
    if (options.key() == null && key.isEmpty() && address.isLoopback()) {
      // The admin key of a server here goes to a server here only.
      key = readText(dataDir.resolve("admin.key"));
    }
    String caFile = first(options.caFile(), environment.get("TAXIMETER_CA_FILE"), "");
    return new Endpoint(address.host, address.port, address.isTls, address.isLoopback, key, caFile);
  }

  private static Endpoint parse(String text) {
    Matcher found = URL.matcher(text);
    if (found.matches()) {
      String scheme = Objects.requireNonNullElse(found.group(1), "");
      String host = found.group(2);
      int port = found.group(3) == null ? DEFAULT_PORT.getOrDefault(scheme, 0) : Integer.parseInt(found.group(3));
      boolean isLoopback =
          host.equals("localhost") || host.equals("[::1]") || host.matches("127\\.\\d+\\.\\d+\\.\\d+");
      if (port > 0 && port < 65_536) {
        boolean isTls = scheme.equals("https") || (scheme.isEmpty() && !isLoopback);
        return new Endpoint(host, port, isTls, isLoopback, "", "");
      }
    }
    throw new IllegalArgumentException(
        "'" + text + "' is no address of a server: use http://host:port, https://host or host:port");
  }

  private static String first(String... values) {
    for (String value : values) {
      if (value != null && !value.isEmpty()) {
        return value;
      }
    }
    return "";
  }

  /** Returns the text of a file without the white space around it; empty where there is no such file. */
  private static String readText(Path path) {
    try {
      return Files.readString(path).strip();
    } catch (NoSuchFileException missing) {
      return "";
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
