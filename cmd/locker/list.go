package main

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locker/client"
	"locker/wire"
)

func (c *cli) listCommand() *cobra.Command {
	var all, watch bool
	cmd := c.command("list [--all] [--json] [--watch]", wordsList, wordsListLong,
		func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return &usageError{text: wordsNoArguments}
			}
			return c.with(ctx, func(conn *client.Client) error {
				if !watch {
					rows, err := conn.List(ctx, all)
					if err == nil {
						c.printList(rows)
					}
					return err
				}
				between := ""
				var last []client.Row
				shown := false
				return conn.Watch(ctx, func() error {
					rows, err := conn.List(ctx, all)
					if err != nil {
						return err
					}
					if shown && slices.Equal(rows, last) {
						return nil // lockerd was restarted, or something has changed that is not for us to see
					}
					shown, last = true, rows
					c.out.WriteString(between)
					switch {
					case c.json:
					case isTerminal(os.Stdout):
						c.out.WriteString("\x1b[H\x1b[2J") // to the top, and all clear
					default:
						between = "\n"
					}
					c.printList(rows)
					return c.out.Flush()
				})
			})
		})
	cmd.Flags().BoolVar(&all, "all", false, flagListAll)
	cmd.Flags().BoolVar(&watch, "watch", false, flagWatch)
	cmd.Flags().BoolVar(&c.json, "json", false, flagJSON)
	return cmd
}

func (c *cli) printList(rows []client.Row) {
	if c.json {
		c.printJSON(listObject(gather(rows)))
		return
	}
	table := [][]string{{"PATH", "STATE", "MODE", "USER", "PID", "COMMAND", "SINCE", "TOKEN", "LIFE", "RESTS", "NOTE"}}
	now := time.Now()
	for _, f := range gather(rows) {
		for _, r := range f.all() {
			table = append(table, listRow(r, now))
		}
	}
	if len(table) > 1 {
		c.out.WriteString(columnsOf(table))
	}
}

// locked is one file of a list, with its rows in lockerd's order.
type locked struct {
	holders, waiters, lost, outside []client.Row
}

// all gives the rows in the order of the table: who has the file, then who wants it.
func (f *locked) all() []client.Row { return slices.Concat(f.holders, f.outside, f.waiters, f.lost) }

// first gives the row that speaks for the file: one of locker's own if there is any, since of those outside neither mode
// nor engines are known.
func (f *locked) first() (client.Row, bool) {
	for _, rows := range [][]client.Row{f.holders, f.waiters, f.lost, f.outside} {
		if len(rows) > 0 {
			return rows[0], true
		}
	}
	return client.Row{}, false
}

// gather puts rows of the same file together, in the order in which files first appear.
func gather(rows []client.Row) []*locked {
	type file struct {
		dev, ino uint64
		path     string // only of a file that could not be identified
	}
	var files []*locked
	seen := map[file]*locked{}
	for _, r := range rows {
		key := file{dev: r.Dev, ino: r.Ino}
		if r.Ino == 0 {
			key.path = r.Path
		}
		f := seen[key]
		if f == nil {
			f = &locked{}
			seen[key] = f
			files = append(files, f)
		}
		switch r.Kind {
		case wire.RowHolder, wire.RowOrphan: // who has not come back yet holds it too
			f.holders = append(f.holders, r)
		case wire.RowWaiter:
			f.waiters = append(f.waiters, r)
		case wire.RowLost:
			f.lost = append(f.lost, r)
		case wire.RowOutside:
			f.outside = append(f.outside, r)
		}
	}
	return files
}

// listRow gives the columns of one row.
func listRow(r client.Row, now time.Time) []string {
	if r.Kind == wire.RowOutside {
		return []string{
			orDash(r.Path), stateOutside, "-", outsideUser(r), numberOrDash(uint64(max(r.PID, 0))), orDash(brief(r.Command)), "-", "-", "-", "-", listNote(r, now),
		}
	}
	state := stateHeld
	switch {
	case r.Kind == wire.RowLost:
		state = stateLost
	case r.Kind == wire.RowWaiter:
		state = stateWaits + strconv.FormatUint(uint64(r.Position), 10)
	case r.Ending:
		state = stateEnding
	case r.Kind == wire.RowOrphan:
		state = stateOrphan
	}
	token := r.ID
	if r.Kind == wire.RowWaiter {
		token = 0 // it has none yet
	}
	return []string{
		orDash(r.Path), state, r.Mode.String(), userColumn(r), numberOrDash(uint64(max(r.PID, 0))), orDash(brief(r.Command)),
		clock(r.Since, now), numberOrDash(token), r.Life.String(), orDash(strings.Join(r.Rests.Names(), ",")), listNote(r, now),
	}
}

func userColumn(r client.Row) string {
	if r.User == "" {
		return strconv.FormatUint(uint64(r.UID), 10)
	}
	return shown(r.User)
}

// outsideUser is userColumn of one outside, whose uid is not known when nobody was found who has the file open.
func outsideUser(r client.Row) string {
	if r.PID <= 0 {
		return "-"
	}
	return userColumn(r)
}

// brief cuts a command line that would push all other columns off the screen; --json has the whole.
func brief(command string) string {
	const columns = 32
	n := 0
	for i := range command {
		if n++; n > columns {
			return command[:i] + "..."
		}
	}
	return command
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return shown(s)
}

func numberOrDash(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

// columnsOf pads columns; the last is as long as it is.
func columnsOf(table [][]string) string {
	width := make([]int, len(table[0]))
	for _, row := range table {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, row := range table {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-len([]rune(cell))+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}
