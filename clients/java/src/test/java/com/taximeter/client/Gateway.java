// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.google.protobuf.Duration;
import com.taximeter.v1.CheckQuotaRequest;
import com.taximeter.v1.Usage;
import com.taximeter.v1.UsageRecord;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.EnumSet;
import java.util.Optional;
import org.eclipse.jetty.ee10.servlet.FilterHolder;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/** A Jetty server behind the filter, for the contract suite. */
final class Gateway extends HttpServlet {
  private static final long serialVersionUID = 1L;

  /** Starts one on a port of its own; returns its URL. */
  static String start(TaximeterClient client) throws Exception {
    var server = new Server();
    var connector = new ServerConnector(server);
    connector.setHost("127.0.0.1");
    server.addConnector(connector);
    var context = new ServletContextHandler();
    var filter = new MeteringFilter(client, Gateway::checkOf, false, (request, error) -> error.printStackTrace());
    var holder = new FilterHolder(filter);
    holder.setAsyncSupported(true);
    context.addFilter(holder, "/*", EnumSet.of(DispatcherType.REQUEST));
    var servlet = new ServletHolder(new Gateway());
    servlet.setAsyncSupported(true);
    context.addServlet(servlet, "/*");
    server.setHandler(context);
    server.start();
    return "http://127.0.0.1:" + connector.getLocalPort();
  }

  private static Optional<CheckQuotaRequest> checkOf(HttpServletRequest request) {
    String tenant = request.getHeader("x-tenant");
    if (tenant == null) {
      return Optional.empty();
    }
    var check = CheckQuotaRequest.newBuilder().setTenant(tenant).setModel("gpt-5");
    String estimate = request.getHeader("x-estimate");
    if (estimate != null) {
      check.setEstimate(usage(estimate)).setHoldTtl(Duration.newBuilder().setSeconds(60));
    }
    return Optional.of(check.build());
  }

  @Override
  protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
    if (request.getHeader("x-fail") != null) {
      response.setStatus(HttpServletResponse.SC_INTERNAL_SERVER_ERROR);
      return;
    }
    String used = request.getHeader("x-used");
    if (used != null) {
      var record = UsageRecord.newBuilder().setModel("gpt-5").setUsage(usage(used)).build();
      Call.of(request).ifPresent(call -> call.use(record));
    }
    response.getWriter().write("served");
  }

  private static Usage usage(String tokens) {
    return Usage.newBuilder().setVisibleOutputTokens(Long.parseLong(tokens)).build();
  }
}
