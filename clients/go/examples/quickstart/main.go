// SPDX-License-Identifier: Apache-2.0

// One check and one record, against the server on this machine.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/taximeter/taximeter/clients/go"
	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

func main() {
	client, err := taximeter.New(taximeter.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()

	decision, err := client.Check(ctx, &taximeterv1.CheckQuotaRequest{Tenant: "acme/research", Model: "gpt-5"})
	if err != nil {
		log.Fatal(err)
	}
	if decision.GetDecision() != taximeterv1.Decision_DECISION_ALLOW {
		fmt.Println("denied; try again in", decision.GetRetryAfter().AsDuration())
		return
	}

	// Here the model is called; these are the numbers of its answer.
	usage := &taximeterv1.Usage{UncachedInputTokens: 1_200, CacheReadTokens: 800, VisibleOutputTokens: 300}
	recorded, err := client.Record(ctx, &taximeterv1.UsageRecord{
		Tenant:     "acme/research",
		Model:      "gpt-5",
		Payload:    &taximeterv1.UsageRecord_Usage{Usage: usage},
		Attributes: map[string]string{"workflow_uuid": "demo"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("recorded:", taximeter.MoneyOf(recorded.GetCost()))
}
