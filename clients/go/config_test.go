// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"os"
	"path/filepath"
	"testing"
)

func environmentOf(variables map[string]string) func(string) string {
	return func(name string) string { return variables[name] }
}

// An address without a scheme is plain text on this machine and TLS elsewhere.
func TestAddresses(t *testing.T) {
	for url, want := range map[string]endpoint{
		"http://example.com:7460": {target: "example.com:7460"},
		"https://example.com":     {target: "example.com:443", isTLS: true},
		"example.com:7460":        {target: "example.com:7460", isTLS: true},
		"localhost:7460":          {target: "localhost:7460", isLoopback: true},
		"http://[::1]:7460/":      {target: "[::1]:7460", isLoopback: true},
	} {
		found, err := resolve(Options{URL: url}, environmentOf(nil))
		if err != nil || found != want {
			t.Errorf("%s: %+v, %v", url, found, err)
		}
	}
}

// What is no address of a server is refused before anything is sent.
func TestBadAddresses(t *testing.T) {
	for _, url := range []string{"example.com", "ftp://example.com:1", "http://user@example.com", "http://example.com/path", "http://:7460"} {
		if _, err := resolve(Options{URL: url}, environmentOf(nil)); err == nil {
			t.Errorf("%s is taken", url)
		}
	}
}

// The admin key of a server on this machine is found, and goes nowhere else.
func TestLocalKeyStaysHere(t *testing.T) {
	data := t.TempDir()
	for name, text := range map[string]string{"address": "0.0.0.0:7461\n", "admin.key": "tx_local\n"} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here, err := resolve(Options{}, environmentOf(map[string]string{"TAXIMETER_DATA": data}))
	if err != nil || here.target != "127.0.0.1:7461" || here.key != "tx_local" {
		t.Errorf("%+v, %v", here, err)
	}
	there, err := resolve(Options{}, environmentOf(map[string]string{
		"TAXIMETER_DATA": data, "TAXIMETER_URL": "https://example.com",
	}))
	if err != nil || there.key != "" {
		t.Errorf("%+v, %v", there, err)
	}
}
