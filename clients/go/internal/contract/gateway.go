// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/taximeter/taximeter/clients/go"
	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

func (r *runner) gateway(context.Context, json.RawMessage) (object, error) {
	metering := taximeter.Metering{OnError: func(_ *taximeter.Call, err error) { panic(err) }}
	server := httptest.NewServer(taximeter.HTTPMiddleware(r.client, checkOf, metering)(http.HandlerFunc(serve)))
	return object{"url": server.URL}, nil
}

func checkOf(request *http.Request) *taximeterv1.CheckQuotaRequest {
	tenant := request.Header.Get("x-tenant")
	if tenant == "" {
		return nil
	}
	check := &taximeterv1.CheckQuotaRequest{Tenant: tenant, Model: "gpt-5"}
	if estimate := request.Header.Get("x-estimate"); estimate != "" {
		check.Estimate = usage(estimate)
		check.HoldTtl = durationpb.New(time.Minute)
	}
	return check
}

func serve(writer http.ResponseWriter, request *http.Request) {
	if request.Header.Get("x-fail") != "" {
		writer.WriteHeader(http.StatusInternalServerError)
		return
	}
	if used := request.Header.Get("x-used"); used != "" {
		taximeter.CallFrom(request.Context()).Use(&taximeterv1.UsageRecord{
			Model: "gpt-5", Payload: &taximeterv1.UsageRecord_Usage{Usage: usage(used)},
		})
	}
	fmt.Fprint(writer, "served")
}

func usage(tokens string) *taximeterv1.Usage {
	count, err := strconv.ParseInt(tokens, 10, 64)
	must(err)
	return &taximeterv1.Usage{VisibleOutputTokens: count}
}
