// SPDX-License-Identifier: Apache-2.0

// Runs the contract suite's calls with this client: one line of JSON in, one out; see tests/cases/contract/README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"strings"

	"github.com/taximeter/taximeter/clients/go"
	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

// object is a JSON object.
type object = map[string]any

type runner struct {
	client  *taximeter.Client
	options taximeter.Options
	hold    *taximeter.Hold
}

func main() {
	run := &runner{}
	calls := map[string]func(context.Context, json.RawMessage) (object, error){
		"connect":      run.connect,
		"check":        run.check,
		"record":       run.record,
		"record_batch": run.recordBatch,
		"hold":         run.place,
		"extend":       run.extend,
		"release":      run.release,
		"settle":       run.settle,
		"gateway":      run.gateway,
		"parse_money":  parseMoney,
		"format_money": formatMoney,
		"show":         run.show,
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var asked struct {
			Call string
			With json.RawMessage
		}
		must(json.Unmarshal(lines.Bytes(), &asked))
		answer, err := calls[asked.Call](context.Background(), asked.With)
		line := object{"ok": answer}
		if err != nil {
			line = object{"error": failure(err)}
		}
		text, err := json.Marshal(line)
		must(err)
		fmt.Println(string(text))
	}
}

func (r *runner) connect(_ context.Context, with json.RawMessage) (object, error) {
	var options struct {
		URL, Key string
		CAFile   string `json:"ca_file"`
	}
	must(json.Unmarshal(with, &options))
	if r.client != nil {
		must(r.client.Close())
	}
	r.options = taximeter.Options{URL: options.URL, Key: options.Key, CAFile: options.CAFile}
	client, err := taximeter.New(r.options)
	r.client = client
	return object{}, err
}

// show writes client and options in all ways in which one would log them.
func (r *runner) show(context.Context, json.RawMessage) (object, error) {
	return object{"text": shown(r.client, r.options, &r.options)}, nil
}

func shown(values ...any) string {
	var text strings.Builder
	logger := slog.New(slog.NewTextHandler(&text, nil))
	for _, value := range values {
		fmt.Fprintf(&text, "%v %+v %#v %s\n", value, value, value, value)
		logger.Info("shown", "value", value)
	}
	return text.String()
}

func (r *runner) check(ctx context.Context, with json.RawMessage) (object, error) {
	answer, err := r.client.Check(ctx, read(with, &taximeterv1.CheckQuotaRequest{}))
	return decision(answer), err
}

func (r *runner) record(ctx context.Context, with json.RawMessage) (object, error) {
	record := read(with, &taximeterv1.UsageRecord{})
	answer, err := r.client.Record(ctx, record)
	return recorded(record.GetRecordId(), answer), err
}

func (r *runner) recordBatch(ctx context.Context, with json.RawMessage) (object, error) {
	records := read(with, &taximeterv1.RecordBatchRequest{}).GetRecords()
	outcomes, err := r.client.RecordBatch(ctx, records)
	items := make([]object, len(outcomes))
	for i, outcome := range outcomes {
		if outcome.Err != nil {
			items[i] = object{"error": failure(outcome.Err)}
		} else {
			items[i] = object{"recorded": recorded(records[i].GetRecordId(), outcome.Recorded)}
		}
	}
	return object{"items": items}, err
}

func (r *runner) place(ctx context.Context, with json.RawMessage) (object, error) {
	hold, answer, err := r.client.PlaceHold(ctx, read(with, &taximeterv1.CheckQuotaRequest{}))
	r.hold = hold
	return decision(answer), err
}

func (r *runner) extend(ctx context.Context, with json.RawMessage) (object, error) {
	answer, err := r.hold.Extend(ctx, read(with, &taximeterv1.ExtendHoldRequest{}))
	made := write(answer)
	made["allowed"] = answer.GetDecision() == taximeterv1.Decision_DECISION_ALLOW
	return made, err
}

func (r *runner) release(ctx context.Context, _ json.RawMessage) (object, error) {
	state, err := r.hold.Release(ctx)
	return object{"state": state.String()}, err
}

func (r *runner) settle(ctx context.Context, with json.RawMessage) (object, error) {
	record := read(with, &taximeterv1.UsageRecord{})
	answer, err := r.hold.Settle(ctx, record)
	return recorded(record.GetRecordId(), answer), err
}

func parseMoney(_ context.Context, with json.RawMessage) (object, error) {
	var given struct{ Text string }
	must(json.Unmarshal(with, &given))
	picos, err := taximeter.ParsePicos(given.Text)
	return object{"picos": picos}, err
}

func formatMoney(_ context.Context, with json.RawMessage) (object, error) {
	var given struct {
		Code  string `json:"currency_code"`
		Picos string
	}
	must(json.Unmarshal(with, &given))
	picos, _ := new(big.Int).SetString(given.Picos, 10)
	return object{"text": taximeter.Money{CurrencyCode: given.Code, Picos: picos}.String()}, nil
}

func failure(err error) object {
	var failed *taximeter.Error
	if !errors.As(err, &failed) {
		return object{"code": "INVALID_VALUE", "text": shown(err)}
	}
	fields := make([]string, len(failed.Fields))
	for i, field := range failed.Fields {
		fields[i] = field.Field
	}
	return object{
		"code":         codeName(failed.Code),
		"reason":       failed.Reason,
		"metadata":     failed.Metadata,
		"fields":       fields,
		"not_recorded": failed.NotRecorded(),
		"text":         shown(err, failed),
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
