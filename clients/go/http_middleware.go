// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"context"
	"net/http"

	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

// HTTPCheck is the check to make before a request is served: tenant and model, and an estimate with a hold_ttl where the
// estimate is to be held. Nil means that the request is not metered.
type HTTPCheck func(*http.Request) *taximeterv1.CheckQuotaRequest

// HTTPMiddleware checks before the next handler and records after it what the handler says with CallFrom(ctx).Use. A
// denied request is answered with 429 and the fields of RateLimitHeaders, one that cannot be decided with 503.
func HTTPMiddleware(client *Client, check HTTPCheck, metering Metering) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			ask := check(request)
			if ask == nil {
				next.ServeHTTP(writer, request)
				return
			}
			call, err := begin(request.Context(), client, metering, ask)
			if err != nil {
				http.Error(writer, "whether the call may go on could not be decided", http.StatusServiceUnavailable)
				return
			}
			for name, value := range RateLimitHeaders(call.Decision, systemClock()) {
				writer.Header().Set(name, value)
			}
			if !call.isAllowed() {
				http.Error(writer, "a limit of the tenant denies this call", http.StatusTooManyRequests)
				return
			}
			// Also when the handler panics.
			defer call.finish(request.Context())
			next.ServeHTTP(writer, request.WithContext(context.WithValue(request.Context(), callKey{}, call)))
		})
	}
}
