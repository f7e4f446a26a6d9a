package locker_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"locker/client"
)

// benchList measures how long a list of many holds takes: for lockerd to give and a client to read, and as a command.
func (d *benchDir) benchList(b *testing.B, s *benchServer, holds int, row func(...string)) {
	b.Helper()
	ctx := context.Background()
	c, err := client.Dial(ctx, s.socket)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var answers, commands []float64
	for range benchRounds {
		t0 := time.Now()
		rows, err := c.List(ctx, false)
		answers = append(answers, float64(time.Since(t0).Microseconds())/1e3)
		if err != nil || len(rows) != holds {
			b.Fatalf("list of %d holds: %v, %d given", holds, err, len(rows))
		}
		t0 = time.Now()
		out, err := exec.Command(filepath.Join(d.dir, "locker"), "list", "--json", "--socket", s.socket).Output()
		commands = append(commands, float64(time.Since(t0).Microseconds())/1e3)
		if shown := strings.Count(string(out), `"id"`); err != nil || shown != holds {
			b.Fatalf("list of %d holds: %v, %d shown", holds, err, shown)
		}
	}
	row("a list of "+fmt.Sprint(holds)+" holds, until a client has read it, ms", "", format(middle(answers)), "")
	row("`locker list --json` of them, from spawn to exit, ms", "", format(middle(commands)), "")
}
