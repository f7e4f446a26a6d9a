package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"locker/client"
	"locker/wire"
)

func (c *cli) unlockCommand() *cobra.Command {
	var tag string
	var id uint64
	var all bool
	var cmd *cobra.Command
	cmd = c.command("unlock [--tag T] PATH... | --id N | --all", wordsUnlock, wordsUnlockLong,
		func(ctx context.Context, args []string) error {
			byID, byTag := cmd.Flags().Changed("id"), cmd.Flags().Changed("tag")
			switch {
			case !byID && !all && len(args) == 0:
				return &usageError{text: wordsPickOne}
			case byID && all, (byID || all) && len(args) > 0:
				return &usageError{text: wordsPickOne}
			case byID && byTag:
				return &usageError{text: wordsTagAndID}
			}
			if err := checkText("tag", tag, wire.MaxTag); err != nil {
				return err
			}
			paths, err := absolutes(args)
			if err != nil {
				return err
			}
			return c.with(ctx, func(conn *client.Client) error {
				switch {
				case byID:
					return c.unlockID(ctx, conn, id)
				case all && byTag:
					return c.released(conn.UnlockTag(ctx, tag))
				case all:
					return c.released(conn.UnlockAll(ctx))
				}
				return c.unlockPaths(ctx, conn, tag, paths)
			})
		})
	cmd.Flags().StringVar(&tag, "tag", "", flagTag)
	cmd.Flags().Uint64Var(&id, "id", 0, flagID)
	cmd.Flags().BoolVar(&all, "all", false, flagAll)
	return cmd
}

func (c *cli) unlockID(ctx context.Context, conn *client.Client, id uint64) error {
	found := false
	var err error
	if id != 0 {
		found, err = conn.UnlockID(ctx, id)
	}
	if err == nil && !found {
		err = &client.Error{Code: client.CodeNotFound, Text: sayNoSuchID(id)}
	}
	if err != nil {
		return err
	}
	return c.released([]uint64{id}, nil)
}

func (c *cli) unlockPaths(ctx context.Context, conn *client.Client, tag string, paths []string) error {
	ids, err := conn.UnlockPaths(ctx, tag, paths...)
	if err != nil {
		return err
	}
	for i, path := range paths {
		if i < len(ids) && ids[i] != 0 {
			c.out.WriteString(sayReleased(shown(path)) + " " + sayToken(ids[i]) + "\n")
		} else {
			c.out.WriteString(sayNotLocked(path) + "\n")
		}
	}
	return nil
}

// released prints the ids that were released.
func (c *cli) released(ids []uint64, err error) error {
	for _, id := range ids {
		c.out.WriteString(sayReleased(sayToken(id)) + "\n")
	}
	return err
}

func (c *cli) breakCommand() *cobra.Command {
	var reason string
	var id uint64
	var cmd *cobra.Command
	cmd = c.command("break --reason TEXT PATH | --id N", wordsBreak, wordsBreakLong,
		func(ctx context.Context, args []string) error {
			byID := cmd.Flags().Changed("id")
			switch {
			case byID == (len(args) > 0), len(args) > 1:
				return &usageError{text: wordsPathOrID}
			case reason == "":
				return &usageError{text: wordsNoReason}
			}
			if err := checkText("reason", reason, wire.MaxReason); err != nil {
				return err
			}
			paths, err := absolutes(args)
			if err != nil {
				return err
			}
			return c.with(ctx, func(conn *client.Client) error {
				var ids []uint64
				var err error
				what := sayToken(id)
				switch {
				case !byID:
					what = shown(paths[0])
					ids, err = conn.BreakPath(ctx, paths[0], reason)
				case id != 0:
					ids, err = conn.BreakID(ctx, id, reason)
				}
				if err == nil && len(ids) == 0 {
					err = &client.Error{Code: client.CodeNotFound, Text: sayNobody(what)}
				}
				for _, id := range ids {
					c.out.WriteString(sayBroken(id) + "\n")
				}
				return err
			})
		})
	cmd.Flags().StringVar(&reason, "reason", "", flagReason)
	cmd.Flags().Uint64Var(&id, "id", 0, flagID)
	return cmd
}

func (c *cli) reloadCommand() *cobra.Command {
	return c.command("reload", wordsReload, "", func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return &usageError{text: wordsNoArguments}
		}
		return c.with(ctx, func(conn *client.Client) error {
			lines, err := conn.Reload(ctx)
			for _, line := range lines {
				c.out.WriteString(sentence(line) + "\n")
			}
			var refused *client.Error
			if errors.As(err, &refused) {
				err = &reloadError{refused}
			}
			return err
		})
	})
}

// reloadError is lockerd's refusal to reload. Its text has a line for each fault of the policy file.
type reloadError struct{ refused *client.Error }

func (e *reloadError) Error() string { return e.refused.Error() }
func (e *reloadError) Unwrap() error { return e.refused }
