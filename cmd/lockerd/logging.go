package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// newLogger logs to w. Messages are constants everywhere; what clients chose can only be in values.
func newLogger(o options, w io.Writer) hclog.Logger {
	return escaping{hclog.New(&hclog.LoggerOptions{
		Name: "lockerd", Level: hclog.LevelFromString(o.logLevel), Output: w, JSONFormat: o.logForm == "json",
	})}
}

// escaping writes values as printable ASCII on one line, whichever form the log has: a path may hold newlines, terminal
// escapes and bytes that are no text, and an error may hold a path.
type escaping struct{ hclog.Logger }

func (l escaping) Trace(msg string, kv ...any) { l.Logger.Trace(msg, escaped(kv)...) }
func (l escaping) Debug(msg string, kv ...any) { l.Logger.Debug(msg, escaped(kv)...) }
func (l escaping) Info(msg string, kv ...any)  { l.Logger.Info(msg, escaped(kv)...) }
func (l escaping) Warn(msg string, kv ...any)  { l.Logger.Warn(msg, escaped(kv)...) }
func (l escaping) Error(msg string, kv ...any) { l.Logger.Error(msg, escaped(kv)...) }

func escaped(kv []any) []any {
	out := make([]any, len(kv))
	for i, v := range kv {
		switch v := v.(type) {
		case string:
			out[i] = printable(v)
		case error:
			out[i] = printable(v.Error())
		case fmt.Stringer:
			out[i] = printable(v.String())
		default:
			out[i] = v // numbers and booleans
		}
	}
	return out
}

// printable escapes as in a Go string, without the quotes around it, what is not printable ASCII throughout.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
		return s // hclog quotes it if it holds spaces or quotes
	}
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}
