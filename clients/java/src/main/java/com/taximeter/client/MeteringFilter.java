// SPDX-License-Identifier: Apache-2.0
package com.taximeter.client;

import com.taximeter.v1.CheckQuotaRequest;
import com.taximeter.v1.CheckQuotaResponse;
import com.taximeter.v1.Decision;
import jakarta.servlet.AsyncEvent;
import jakarta.servlet.AsyncListener;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.time.Instant;
import java.util.Optional;
import java.util.function.BiConsumer;
import java.util.function.Function;

/**
 * Checks before a request is served and records after it what the servlet says with {@code Call.of(request)}. A denied
 * request is answered with 429 and the fields of {@link RateLimitHeaders}, one that cannot be decided with 503. A filter of
 * jakarta.servlet, which Spring Boot takes as a bean.
 */
public final class MeteringFilter implements Filter {
  private static final int TOO_MANY_REQUESTS = 429;

  private final TaximeterClient client;
  private final Function<HttpServletRequest, Optional<CheckQuotaRequest>> check;
  private final boolean failOpen;
  private final BiConsumer<HttpServletRequest, TaximeterException> onError;

  /**
   * Makes a filter.
   *
   * @param check the check to make before a request is served: tenant and model, and an estimate with a hold_ttl where the
   *     estimate is to be held; empty means that the request is not metered
   * @param failOpen whether requests pass that cannot be decided; they are recorded all the same
   * @param onError is told of records and holds that failed after the request
   */
  public MeteringFilter(
      TaximeterClient client,
      Function<HttpServletRequest, Optional<CheckQuotaRequest>> check,
      boolean failOpen,
      BiConsumer<HttpServletRequest, TaximeterException> onError) {
    this.client = client;
    this.check = check;
    this.failOpen = failOpen;
    this.onError = onError;
  }

  @Override
  public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain)
      throws IOException, ServletException {
    if (!(request instanceof HttpServletRequest incoming) || !(response instanceof HttpServletResponse outgoing)) {
      chain.doFilter(request, response);
      return;
    }
    Optional<CheckQuotaRequest> asked = check.apply(incoming);
    if (asked.isEmpty()) {
      chain.doFilter(request, response);
      return;
    }
    CheckQuotaResponse decision = null;
    try {
      decision = client.check(asked.get());
    } catch (TaximeterException undecided) {
      if (!failOpen) {
        refuse(
            outgoing, HttpServletResponse.SC_SERVICE_UNAVAILABLE, "whether the call may go on could not be decided");
        return;
      }
    }
    if (decision != null) {
      RateLimitHeaders.of(decision, Instant.now()).forEach(outgoing::setHeader);
      if (decision.getDecision() != Decision.DECISION_ALLOW) {
        refuse(outgoing, TOO_MANY_REQUESTS, "a limit of the tenant denies this call");
        return;
      }
    }
    serve(incoming, response, chain, new Call(client, asked.get().getTenant(), decision));
  }

  private void serve(HttpServletRequest request, ServletResponse response, FilterChain chain, Call call)
      throws IOException, ServletException {
    request.setAttribute(Call.ATTRIBUTE, call);
    try {
      chain.doFilter(request, response);
    } finally {
      if (request.isAsyncStarted()) {
        request.getAsyncContext().addListener(new FinishWhenComplete(request, call));
      } else {
        finish(request, call);
      }
    }
  }

  private void finish(HttpServletRequest request, Call call) {
    try {
      call.finish();
    } catch (TaximeterException error) {
      onError.accept(request, error);
    }
  }

  private static void refuse(HttpServletResponse response, int status, String message) throws IOException {
    response.setStatus(status);
    response.setContentType("text/plain");
    response.getWriter().write(message);
  }

  /** Finishes a call whose servlet went on in the background. */
  private final class FinishWhenComplete implements AsyncListener {
    private final HttpServletRequest request;
    private final Call call;

    FinishWhenComplete(HttpServletRequest request, Call call) {
      this.request = request;
      this.call = call;
    }

    @Override
    public void onComplete(AsyncEvent event) {
      finish(request, call);
    }

    @Override
    public void onTimeout(AsyncEvent event) {
      // onComplete follows.
    }

    @Override
    public void onError(AsyncEvent event) {
      // onComplete follows.
    }

    @Override
    public void onStartAsync(AsyncEvent event) {
      event.getAsyncContext().addListener(this);
    }
  }
}
