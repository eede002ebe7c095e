// SPDX-License-Identifier: Apache-2.0

package taximeter

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
)

const defaultURL = "http://127.0.0.1:7460"

// Options say where the server is and which key to send. What is empty is taken from the environment (TAXIMETER_URL,
// TAXIMETER_KEY, TAXIMETER_CA_FILE), and then from the data directory of a server on this machine (TAXIMETER_DATA, or
// ~/.local/share/taximeter), which leaves its address and admin key there.
type Options struct {
	// URL is http://host:port, https://host:port, or host:port: then plain text on this machine, and TLS elsewhere.
	URL string
	// Key is the API key, "tx_...".
	Key string
	// CAFile has the certificates to trust instead of the system's, PEM.
	CAFile string
	// DialOptions are further options of the connection.
	DialOptions []grpc.DialOption
}

// String is what may be shown of the options: everything but the key.
func (o Options) String() string {
	return fmt.Sprintf("{URL:%q CAFile:%q DialOptions:%d}", o.URL, o.CAFile, len(o.DialOptions))
}

// Format leaves the key out, whatever the verb.
func (o Options) Format(state fmt.State, _ rune) { fmt.Fprint(state, o.String()) }

// LogValue leaves the key out.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }

// endpoint is everything needed to reach a server.
type endpoint struct {
	target     string
	key        string
	isTLS      bool
	isLoopback bool
	roots      *x509.CertPool
}

func resolve(options Options, environment func(string) string) (endpoint, error) {
	dataDir := environment("TAXIMETER_DATA")
	if dataDir == "" {
		dataDir = filepath.Join(environment("HOME"), ".local", "share", "taximeter")
	}
	localURL, err := readText(filepath.Join(dataDir, "address"))
	if err != nil {
		return endpoint{}, err
	}
	// A server that listens everywhere is reached from this machine by loopback.
	localURL = strings.Replace(localURL, "0.0.0.0:", "127.0.0.1:", 1)
	localURL = strings.Replace(localURL, "[::]:", "[::1]:", 1)
	found, err := parseURL(firstOf(options.URL, environment("TAXIMETER_URL"), localURL, defaultURL))
	if err != nil {
		return endpoint{}, err
	}
	found.key = firstOf(options.Key, environment("TAXIMETER_KEY"))
	if found.key == "" && found.isLoopback {
		// The admin key of a server here goes to a server here only.
		if found.key, err = readText(filepath.Join(dataDir, "admin.key")); err != nil {
			return endpoint{}, err
		}
	}
	if file := firstOf(options.CAFile, environment("TAXIMETER_CA_FILE")); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return endpoint{}, fmt.Errorf("taximeter: cannot read the CA file: %w", err)
		}
		found.roots = x509.NewCertPool()
		if !found.roots.AppendCertsFromPEM(pem) {
			return endpoint{}, fmt.Errorf("taximeter: %s holds no certificate", file)
		}
	}
	return found, nil
}

func parseURL(text string) (endpoint, error) {
	bad := fmt.Errorf("taximeter: %q is no address of a server: use http://host:port, https://host or host:port", text)
	scheme, rest, has := strings.Cut(text, "://")
	if !has {
		scheme, rest = "", text
	}
	ports := map[string]string{"http": "80", "https": "443", "": ""}
	port, known := ports[scheme]
	parsed, err := url.Parse("//" + rest)
	if err != nil || !known || parsed.User != nil || strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" {
		return endpoint{}, bad
	}
	host, port := parsed.Hostname(), firstOf(parsed.Port(), port)
	if host == "" || port == "" {
		return endpoint{}, bad
	}
	ip := net.ParseIP(host)
	isLoopback := host == "localhost" || ip != nil && ip.IsLoopback()
	isTLS := scheme == "https" || scheme == "" && !isLoopback
	return endpoint{target: net.JoinHostPort(host, port), isTLS: isTLS, isLoopback: isLoopback}, nil
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// readText is the text of a file without the white space around it; empty where there is no such file.
func readText(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("taximeter: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
