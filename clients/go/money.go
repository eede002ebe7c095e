// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"github.com/taximeter/taximeter/clients/go/taximeterv1"
)

const (
	fractionDigits    = 12
	fractionDigitsMin = 2
)

var (
	picosPerUnit = big.NewInt(1_000_000_000_000)
	plainAmount  = regexp.MustCompile(`^(-?)([0-9]{1,32})(?:\.([0-9]{1,12}))?$`)
)

// Money is an exact amount of one currency. There are no floats in it.
type Money struct {
	// CurrencyCode is the ISO 4217 code in capitals, such as "USD". Empty where the server knows no currency yet.
	CurrencyCode string
	// Picos is the whole amount in pico-units, 10^-12 of the currency.
	Picos *big.Int
}

// MoneyOf is the amount of a message; nil is nothing.
func MoneyOf(message *taximeterv1.Money) Money {
	picos := new(big.Int).Mul(big.NewInt(message.GetUnits()), picosPerUnit)
	return Money{message.GetCurrencyCode(), picos.Add(picos, big.NewInt(message.GetPicos()))}
}

// String is the amount with at least two digits after the point, such as "12.50 USD".
func (m Money) String() string {
	units, rest := new(big.Int).QuoRem(new(big.Int).Abs(m.Picos), picosPerUnit, new(big.Int))
	fraction := strings.TrimRight(fmt.Sprintf("%0*d", fractionDigits, rest), "0")
	for len(fraction) < fractionDigitsMin {
		fraction += "0"
	}
	sign := ""
	if m.Picos.Sign() < 0 {
		sign = "-"
	}
	return strings.TrimRight(fmt.Sprintf("%s%s.%s %s", sign, units, fraction, m.CurrencyCode), " ")
}

// ParsePicos reads an amount such as "12.50" exactly into pico-units. It takes plain digits with an optional sign, and
// at most 12 digits after the point.
func ParsePicos(text string) (*big.Int, error) {
	parts := plainAmount.FindStringSubmatch(text)
	if parts == nil {
		return nil, fmt.Errorf("taximeter: %q is not an amount: plain digits such as 12.50, at most 12 after the point", text)
	}
	digits := parts[1] + parts[2] + parts[3] + strings.Repeat("0", fractionDigits-len(parts[3]))
	picos, _ := new(big.Int).SetString(digits, 10)
	return picos, nil
}
