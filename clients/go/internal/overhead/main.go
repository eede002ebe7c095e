// SPDX-License-Identifier: Apache-2.0

// Measures what this client adds to a check: p50 of Client.Check beside that of the bare generated stub, in turns, on one
// connection each, against the server that the environment names.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/taximeter/taximeter/clients/go"
	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

func main() {
	rounds := flag.Int("rounds", 20, "how often client and stub take turns")
	calls := flag.Int("calls", 500, "calls per turn")
	flag.Parse()

	client, err := taximeter.New(taximeter.Options{})
	must(err)
	target := strings.TrimPrefix(os.Getenv("TAXIMETER_URL"), "http://")
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	stub := taximeterv1.NewMeteringServiceClient(connection)
	ctx := metadata.AppendToOutgoingContext(
		context.Background(), "authorization", "Bearer "+os.Getenv("TAXIMETER_KEY"))
	request := &taximeterv1.CheckQuotaRequest{Tenant: "overhead", Model: "gpt-5"}

	byStub := func() error { _, err := stub.CheckQuota(ctx, request); return err }
	byClient := func() error { _, err := client.Check(context.Background(), request); return err }
	var stubTimes, clientTimes []time.Duration
	for round := range *rounds + 1 {
		ofStub, ofClient := measure(*calls, byStub), measure(*calls, byClient)
		if round > 0 { // The first is to warm up.
			stubTimes, clientTimes = append(stubTimes, ofStub...), append(clientTimes, ofClient...)
		}
	}
	slices.Sort(stubTimes)
	slices.Sort(clientTimes)
	for _, percent := range []int{50, 99} {
		index := len(stubTimes) * percent / 100
		bare, ours := stubTimes[index], clientTimes[index]
		fmt.Printf("go p%d: stub %d us, client %d us, client adds %+.1f us\n",
			percent, bare.Microseconds(), ours.Microseconds(), float64(ours-bare)/1e3)
	}
}

func measure(calls int, call func() error) []time.Duration {
	times := make([]time.Duration, calls)
	for i := range times {
		began := time.Now()
		must(call())
		times[i] = time.Since(began)
	}
	return times
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
