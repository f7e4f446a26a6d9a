package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"locker/client"
)

func (c *cli) statusCommand() *cobra.Command {
	cmd := c.command("status [--json]", wordsStatus, "", func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return &usageError{text: wordsNoArguments}
		}
		return c.with(ctx, func(conn *client.Client) error {
			s, err := conn.Status(ctx)
			if err != nil {
				return err
			}
			g, err := askGuard(ctx, conn)
			if err != nil {
				return err
			}
			if c.json {
				c.printJSON(statusObject(s, g))
				return nil
			}
			c.out.WriteString(columnsOf(statusRows(s, g, time.Now())))
			if len(s.Limits) > 0 {
				c.out.WriteString("\n" + columnsOf(limitRows(s.Limits)))
			}
			return nil
		})
	})
	cmd.Flags().BoolVar(&c.json, "json", false, flagJSON)
	return cmd
}

func statusObject(s *client.Status, g guarding) *object {
	o := &object{}
	o.open('{')
	o.text("server", s.Server)
	o.signed("broker_pid", int64(s.BrokerPID))
	o.signed("keeper_pid", int64(s.KeeperPID))
	o.time("started", s.Started)
	o.path("policy_file", s.PolicyFile)
	o.text("policy_sha256", s.PolicySHA256)
	o.text("policy_error", s.PolicyError)
	o.time("policy_loaded", s.PolicyLoaded)
	o.number("rules", uint64(s.Rules))
	o.number("holds", uint64(s.Holds))
	o.number("waiters", uint64(s.Waiters))
	o.number("connections", uint64(s.Connections))
	o.number("lost", uint64(s.Lost))
	o.path("audit_segment", s.AuditSegment)
	o.number("audit_seq", s.AuditSeq)
	o.text("audit_error", s.AuditError)
	g.write(o)
	o.key("limits")
	o.open('[')
	for _, l := range s.Limits {
		o.open('{')
		o.text("name", l.Name)
		o.number("per_uid", l.PerUID)
		o.number("all", l.All)
		o.number("used", l.Used)
		o.number("used_all", l.UsedAll)
		o.close('}')
	}
	o.close(']')
	o.close('}')
	return o
}

func (c *cli) versionCommand() *cobra.Command {
	return c.command("version", wordsVersion, "", func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return &usageError{text: wordsNoArguments}
		}
		c.out.WriteString("locker " + version + "\n")
		return nil
	})
}
