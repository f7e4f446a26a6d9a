package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"locker/client"
	"locker/wire"
)

// defaultPolicy is where lockerd looks for its policy.
const defaultPolicy = "/etc/locker/locker.toml"

func (c *cli) policyCommand() *cobra.Command {
	return c.group("policy", wordsPolicy, c.policyCheck(), c.policyExplain(), c.policyList())
}

func (c *cli) policyCheck() *cobra.Command {
	return c.command("check [FILE]", wordsCheck, "", func(ctx context.Context, args []string) error {
		file := defaultPolicy
		switch len(args) {
		case 0:
		case 1:
			var err error
			if file, err = absolute(args[0]); err != nil {
				return err
			}
		default:
			return &usageError{text: wordsOneFile}
		}
		return checkPolicy(file)
	})
}

// checkPolicy has lockerd look at the file. Its standard error becomes ours, under our name, and its exit codes too.
func checkPolicy(file string) error {
	path, err := findLockerd()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, "--check", "--config", file)
	cmd.Args[0], cmd.Stdout = "lockerd", os.Stdout
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	said := bufio.NewReader(pipe)
	for { // to the end, before Wait closes the pipe
		line, err := said.ReadString('\n')
		if rest, ok := strings.CutPrefix(line, "lockerd: "); ok {
			line = "locker: " + rest
		}
		os.Stderr.WriteString(line)
		if err != nil {
			break
		}
	}
	var failed *exec.ExitError
	switch err := cmd.Wait(); {
	case err == nil:
		return nil
	case !errors.As(err, &failed):
		return err
	case failed.ExitCode() == 2: // lockerd's usage
		return statusError(exitUsage)
	case failed.ExitCode() < 0:
		return fmt.Errorf("lockerd --check: %w", err)
	}
	return statusError(exitFailure) // has been said
}

// execLockerd makes this process lockerd. It returns only on an error.
func execLockerd(args ...string) error {
	path, err := findLockerd()
	if err != nil {
		return err
	}
	err = syscall.Exec(path, append([]string{"lockerd"}, args...), os.Environ())
	return &os.PathError{Op: "exec", Path: path, Err: err}
}

// findLockerd looks beside our own executable, in the PATH, and where daemons are installed, which is rarely in a
// user's PATH.
func findLockerd() (string, error) {
	var places []string
	if self, err := os.Executable(); err == nil {
		places = append(places, filepath.Join(filepath.Dir(self), "lockerd"))
	}
	if path, err := exec.LookPath("lockerd"); err == nil {
		places = append(places, path)
	}
	for _, p := range append(places, "/usr/sbin/lockerd", "/usr/local/sbin/lockerd") {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", errors.New(oldNoDaemon)
}

func (c *cli) policyExplain() *cobra.Command {
	var user, mode string
	var groups []string
	var cmd *cobra.Command
	cmd = c.command("explain --user U [--groups G,...] [--mode M] PATH", wordsExplain, wordsExplainLong,
		func(ctx context.Context, args []string) error {
			actions := map[string]string{"exclusive": "lock", "shared": "lock-shared"}
			switch {
			case user == "":
				return &usageError{text: wordsNoUser}
			case len(args) != 1:
				return &usageError{text: wordsOnePath}
			case actions[mode] == "":
				return &usageError{text: sayBadWord("mode", mode, "exclusive", "shared")}
			}
			path, err := absolute(args[0])
			if err == nil {
				err = checkText("user", user, wire.MaxText)
			}
			if err == nil && len(groups) > wire.MaxListed {
				err = &usageError{text: sayManyWords("groups", len(groups), wire.MaxListed)}
			}
			for _, g := range groups {
				if err == nil {
					err = checkText("groups", g, wire.MaxText)
				}
			}
			if err != nil {
				return err
			}
			q := client.Query{User: user, Action: actions[mode], Path: path}
			if cmd.Flags().Changed("groups") {
				q.Groups = []string{} // --groups '' means none
				for _, g := range groups {
					if g = strings.TrimSpace(g); g != "" {
						q.Groups = append(q.Groups, g)
					}
				}
			}
			return c.with(ctx, func(conn *client.Client) error {
				e, err := conn.Explain(ctx, q)
				if err != nil {
					return err
				}
				c.printExplanation(e)
				if !e.Allowed {
					return statusError(exitDenied)
				}
				return nil
			})
		})
	cmd.Flags().StringVar(&user, "user", "", flagUser)
	cmd.Flags().StringSliceVar(&groups, "groups", nil, flagGroups)
	cmd.Flags().StringVar(&mode, "mode", "exclusive", flagMode)
	cmd.Flags().BoolVar(&c.json, "json", false, flagJSON)
	return cmd
}

func (c *cli) printExplanation(e *client.Explanation) {
	if c.json {
		o := &object{}
		o.open('{')
		o.fact("allowed", e.Allowed)
		o.text("by", e.By)
		o.list("others", e.Others)
		o.close('}')
		c.printJSON(o)
		return
	}
	c.out.WriteString(sayDecision(e) + "\n")
	for _, other := range e.Others {
		c.out.WriteString(sayOther(other) + "\n")
	}
}

func (c *cli) policyList() *cobra.Command {
	cmd := c.command("list [--json]", wordsRules, "", func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return &usageError{text: wordsNoArguments}
		}
		return c.with(ctx, func(conn *client.Client) error {
			rules, err := conn.Rules(ctx)
			if err != nil {
				return err
			}
			c.printRules(rules)
			return nil
		})
	})
	cmd.Flags().BoolVar(&c.json, "json", false, flagJSON)
	return cmd
}

func (c *cli) printRules(rules []client.Allowance) {
	if !c.json {
		table := [][]string{allowanceHead()}
		for _, a := range rules {
			for _, path := range a.Paths {
				table = append(table, allowanceRow(a, path))
			}
		}
		if len(table) > 1 {
			c.out.WriteString(columnsOf(table))
		}
		return
	}
	o := &object{}
	o.open('{')
	o.key("rules")
	o.open('[')
	for _, a := range rules {
		o.open('{')
		o.list("paths", a.Paths)
		o.list("can", a.Can)
		o.signed("max_hold_ns", int64(a.MaxHold))
		o.signed("max_wait_ns", int64(a.MaxWait))
		o.number("holds", uint64(a.Holds))
		o.list("engines", a.Engines)
		o.signed("quiet_ns", int64(a.Quiet))
		o.close('}')
	}
	o.close(']')
	o.close('}')
	c.printJSON(o)
}
