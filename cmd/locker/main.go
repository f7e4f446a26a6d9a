package main

import (
	"bufio"
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"locker/client"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:]))
}

// run does what the command line says and gives the exit code. It does not return when a signal is to end us, or when
// we become lockerd.
func run(args []string) int {
	c := &cli{out: bufio.NewWriter(os.Stdout), say: speaker{os.Stderr}, samba: sambaAsker{programs: callersPrograms()}}
	var err error
	if isOld(args) {
		c.old = true
		err = c.runOld(args)
	} else {
		root := c.root()
		root.SetArgs(args)
		err = root.Execute()
		if err != nil && !c.ran {
			err = asUsage(err, c.failed)
		}
	}
	if flushed := c.out.Flush(); err == nil && flushed != nil {
		err = flushed
	}
	return c.finish(err)
}

// cli is what all subcommands share.
type cli struct {
	out *bufio.Writer // standard output; flushed at the end, and by those who wait
	say speaker

	socket   string // --socket
	conflict int    // -E: the exit code instead of busy and timeout; -1: as in the table
	json     bool   // --json

	old    bool // a command line of 2016
	ran    bool // the command line was understood
	samba  sambaAsker
	failed *cobra.Command // whose flags were not
}

// root makes the whole tree of commands.
func (c *cli) root() *cobra.Command {
	c.conflict = -1
	root := &cobra.Command{
		Use: "locker", Short: wordsRoot, Long: wordsRootLong, Version: version,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs,
		RunE: c.unknown,
	}
	root.PersistentFlags().StringVar(&c.socket, "socket", "", wordsSocket)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		c.failed = cmd
		return err
	})
	root.AddCommand(
		c.lockCommand(), c.unlockCommand(), c.runCommand(), c.listCommand(), c.statusCommand(), c.breakCommand(),
		c.reloadCommand(), c.policyCommand(), c.auditCommand(), c.doctorCommand(), c.versionCommand(),
	)
	return root
}

// group makes a command that only has subcommands.
func (c *cli) group(use, short string, subs ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: c.unknown}
	g.AddCommand(subs...)
	return g
}

// command makes a command whose arguments are checked by do itself.
func (c *cli) command(use, short, long string, do func(ctx context.Context, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.ran, c.failed = true, cmd
			err := do(context.Background(), args)
			if u, ok := err.(*usageError); ok && u.help == "" {
				u.help = cmd.CommandPath()
			}
			return err
		},
	}
}

// unknown is for a word that is no command, or none at all.
func (c *cli) unknown(cmd *cobra.Command, args []string) error {
	c.ran = true
	if len(args) == 0 {
		return &usageError{text: wordsNoCommand, help: cmd.CommandPath()}
	}
	u := &usageError{text: sayUnknownCommand(args[0]), help: cmd.CommandPath()}
	cmd.SuggestionsMinimumDistance = 2
	for _, s := range cmd.SuggestionsFor(args[0]) {
		u.hints = append(u.hints, sayDidYouMean(cmd.CommandPath(), s))
	}
	return u
}

// dialTime is how long we wait for lockerd to say hello; while it restarts, connections queue.
const dialTime = 30 * time.Second

// dial connects to lockerd. The caller closes.
func (c *cli) dial(ctx context.Context) (*client.Client, error) {
	ctx, stop := context.WithTimeout(ctx, dialTime)
	defer stop()
	return client.Dial(ctx, c.socket)
}

// with runs do on a connection.
func (c *cli) with(ctx context.Context, do func(*client.Client) error) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return do(conn)
}
