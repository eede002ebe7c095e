// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/taximeter/taximeter/clients/go"
	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

func read[Message proto.Message](text json.RawMessage, message Message) Message {
	must(protojson.Unmarshal(text, message))
	return message
}

func write(message proto.Message) object {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	must(err)
	made := object{}
	must(json.Unmarshal(text, &made))
	return made
}

func decision(answer *taximeterv1.CheckQuotaResponse) object {
	made := write(answer)
	made["allowed"] = answer.GetDecision() == taximeterv1.Decision_DECISION_ALLOW
	made["estimated_cost"] = money(answer.GetEstimatedCost())
	made["headers"] = taximeter.RateLimitHeaders(answer, time.Now())
	return made
}

func recorded(recordID string, answer *taximeterv1.RecordResponse) object {
	made := write(answer)
	made["record_id"] = recordID
	made["cost"] = money(answer.GetCost())
	return made
}

func money(message *taximeterv1.Money) object {
	if message == nil {
		return nil
	}
	amount := taximeter.MoneyOf(message)
	return object{"text": amount.String(), "picos": amount.Picos}
}

func codeName(found codes.Code) string { return code.Code(found).String() }
