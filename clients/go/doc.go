// SPDX-License-Identifier: Apache-2.0

// Package taximeter is the Go client of Taximeter, which meters what AI workloads use, prices it by a rate card, and
// says before each call whether a tenant may go on.
//
//	client, err := taximeter.New(taximeter.Options{})
//	decision, err := client.Check(ctx, &taximeterv1.CheckQuotaRequest{Tenant: "acme/research", Model: "gpt-5"})
//	if decision.GetDecision() == taximeterv1.Decision_DECISION_ALLOW {
//		// Here the model is called.
//		recorded, err := client.Record(ctx, &taximeterv1.UsageRecord{Tenant: "acme/research", Model: "gpt-5", Usage: ...})
//	}
//
// Requests and answers are the messages of package taximeterv1, whose comments say units, ranges and defaults. This
// package adds what a generated stub does not have: where the server is, retries that charge once, typed errors, holds,
// exact amounts, the header fields of a gateway, and middleware for net/http and gRPC servers.
package taximeter
