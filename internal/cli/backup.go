package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ottla/ottla/internal/backup"
)

// envBackup names the place for backups where no flag does.
const envBackup = "OTTLA_BACKUP"

const placeHelp = "where backups lie: a folder, or s3://bucket/prefix (endpoint and keys from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION); default from " + envBackup

func (c *command) backup() *cobra.Command {
	cmd := &cobra.Command{Use: "backup", Short: "Save the cluster to a folder or to S3, and look at what was saved"}
	var place string
	cmd.PersistentFlags().StringVar(&place, "to", c.env.Getenv(envBackup), placeHelp)
	cmd.AddCommand(c.backupCreate(&place), c.backupList(&place), c.backupVerify(&place))
	return cmd
}

func (c *command) openBackups(place, flag string) (backup.Store, error) {
	if err := c.checkOutput(); err != nil {
		return nil, err
	}
	if place == "" {
		return nil, errors.New("say where the backups lie: " + flag + " FOLDER or " + flag + " s3://bucket/prefix, or set " + envBackup)
	}
	return backup.Open(place, c.env.Getenv)
}

func (c *command) backupCreate(place *string) *cobra.Command {
	var parallel int
	cmd := &cobra.Command{
		Use: "create", Short: "Save everything that is not saved yet", Args: cobra.NoArgs,
		Long: "Save all topics with their records, ids and settings, what groups have committed, the state of producers and transactions, ACLs, credentials, quotas and features. " +
			"The brokers go on serving. Records that an earlier backup in the same place holds are not read again. A backup that was stopped is gone on with by the next one.",
		Example: "  ottla backup create --to /backups/prod\n  ottla backup create --to s3://my-bucket/prod",
	}
	cmd.Flags().IntVar(&parallel, "parallel", 4, "partitions read at the same time, 1 to 64")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if parallel < 1 || parallel > 64 {
			return fmt.Errorf("--parallel %d: it is 1 to 64", parallel)
		}
		s, err := c.openBackups(*place, "--to")
		if err != nil {
			return err
		}
		cl, err := c.client(cmd.Context())
		if err != nil {
			return err
		}
		defer cl.Close()
		m, err := backup.Create(cmd.Context(), backup.Options{Client: cl, Store: s, Progress: c.progress(), Parallel: parallel})
		if err != nil {
			return err
		}
		if c.json() {
			return c.printJSON(summary(m))
		}
		for _, w := range m.Warnings {
			fmt.Fprintln(c.env.Stderr, "warning:", w)
		}
		x := summary(m)
		fmt.Fprintf(c.env.Stdout, "backup %s: %d topics, %d partitions, %s of records, %s of them new\n", m.ID, x.Topics, x.Partitions, bytesText(m.Bytes), bytesText(m.NewBytes))
		return nil
	}
	return cmd
}

// backupSummary is a backup in a few words.
type backupSummary struct {
	ID         string    `json:"id"`
	ClusterID  string    `json:"cluster_id"`
	Started    time.Time `json:"started"`
	Finished   time.Time `json:"finished,omitzero"`
	Parent     string    `json:"parent,omitempty"`
	Topics     int       `json:"topics"`
	Partitions int       `json:"partitions"`
	Bytes      int64     `json:"bytes"`
	NewBytes   int64     `json:"new_bytes"`
	Warnings   []string  `json:"warnings,omitempty"`
}

func summary(m *backup.Manifest) backupSummary {
	s := backupSummary{ID: m.ID, ClusterID: m.ClusterID, Started: m.Started, Finished: m.Finished, Parent: m.Parent, Topics: len(m.Topics), Bytes: m.Bytes, NewBytes: m.NewBytes, Warnings: m.Warnings}
	for _, t := range m.Topics {
		s.Partitions += len(t.Partitions)
	}
	return s
}

func (c *command) backupList(place *string) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the backups, oldest first", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := c.openBackups(*place, "--to")
		if err != nil {
			return err
		}
		all, err := backup.Manifests(cmd.Context(), s)
		if err != nil {
			return err
		}
		list := make([]backupSummary, 0, len(all))
		for _, m := range all {
			list = append(list, summary(m))
		}
		if c.json() {
			return c.printJSON(list)
		}
		if len(list) == 0 {
			fmt.Fprintf(c.env.Stdout, "%s holds no backups\n", s)
			return nil
		}
		return c.table("BACKUP TOPICS PARTITIONS BYTES NEW TOOK STATE", func(row func(cells ...any)) {
			for _, b := range list {
				took, state := "-", "unfinished"
				if !b.Finished.IsZero() {
					took, state = b.Finished.Sub(b.Started).Round(time.Millisecond).String(), "whole"
				}
				row(b.ID, b.Topics, b.Partitions, bytesText(b.Bytes), bytesText(b.NewBytes), took, state)
			}
		})
	}}
}

func (c *command) backupVerify(place *string) *cobra.Command {
	return &cobra.Command{
		Use: "verify [BACKUP]", Short: "Read a backup, the newest if none is named, and check every checksum", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.openBackups(*place, "--to")
			if err != nil {
				return err
			}
			m, err := backup.Find(cmd.Context(), s, strings.Join(args, ""))
			if err != nil {
				return err
			}
			r, err := backup.Verify(cmd.Context(), s, m, c.progress(), 4)
			if err != nil {
				return err
			}
			if c.json() {
				if err := c.printJSON(r); err != nil {
					return err
				}
			}
			if len(r.Problems) > 0 {
				return fmt.Errorf("backup %s is damaged:\n  %s\nMake a new one with `ottla backup create` into an empty place; the broker may still have what is lost here", m.ID, strings.Join(r.Problems, "\n  "))
			}
			if !c.json() {
				fmt.Fprintf(c.env.Stdout, "backup %s is sound: %d objects, %d batches, %s\n", m.ID, r.Objects, r.Batches, bytesText(r.Bytes))
			}
			return nil
		},
	}
}

type restoreFlags struct {
	place, id, at, as string
	topics            []string
	dryRun            bool
	parallel          int
}

func (c *command) restore() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use: "restore", Short: "Bring a backup back, whole or in part, as of its end or of a point in time", Args: cobra.NoArgs,
		Long: "Bring topics back from a backup with the same ids, offsets and leader epochs. Without --topic and --as everything comes back, committed offsets, credentials and ACLs included, into a cluster that has none of it yet. " +
			"With --topic or --as, topics come back beside what is there. Nothing that exists is written to. Run again after it was stopped, the same command goes on.",
		Example: "  ottla restore --from /backups/prod\n  ottla restore --from s3://my-bucket/prod --at 2026-11-24T10:15:00Z\n  ottla restore --from /backups/prod --topic orders --as orders-yesterday --at 24h",
	}
	cmd.Flags().StringVar(&f.place, "from", c.env.Getenv(envBackup), placeHelp)
	cmd.Flags().StringVar(&f.id, "backup", "", "id of the backup; default is the newest, with --at the first one that holds that time")
	cmd.Flags().StringVar(&f.at, "at", "", "point in time: RFC 3339, milliseconds since 1970, or a duration back from now such as 90m; every partition is cut behind the last batch that is not newer")
	cmd.Flags().StringSliceVar(&f.topics, "topic", nil, "topics to bring back, several with commas; default all")
	cmd.Flags().StringVar(&f.as, "as", "", "new name of the topic; with a * for the old name where there are several")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be brought back, and write nothing")
	cmd.Flags().IntVar(&f.parallel, "parallel", 4, "partitions written at the same time, 1 to 64")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.runRestore(cmd.Context(), &f) }
	return cmd
}

func (c *command) runRestore(ctx context.Context, f *restoreFlags) error {
	s, err := c.openBackups(f.place, "--from")
	if err != nil {
		return err
	}
	if f.parallel < 1 || f.parallel > 64 {
		return fmt.Errorf("--parallel %d: it is 1 to 64", f.parallel)
	}
	at, err := timeOf(f.at, time.Now())
	if err != nil {
		return err
	}
	m, err := backup.Choose(ctx, s, f.id, at)
	if err != nil {
		return err
	}
	cl, err := c.client(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	r, err := backup.Restore(ctx, backup.RestoreOptions{Client: cl, Store: s, Manifest: m, Progress: c.progress(), Parallel: f.parallel, At: at, Topics: f.topics, As: f.as, DryRun: f.dryRun})
	if err != nil {
		return err
	}
	if c.json() {
		return c.printJSON(r)
	}
	if err := c.table("TOPIC PARTITIONS OFFSETS DROPPED", func(row func(cells ...any)) {
		for _, t := range r.Topics {
			row(t.Name, t.Partitions, t.Records, t.Dropped)
		}
	}); err != nil {
		return err
	}
	verb := "restored"
	if f.dryRun {
		verb = "would be restored"
	}
	fmt.Fprintf(c.env.Stdout, "%d topics, %s of backup %s %s", len(r.Topics), bytesText(r.Bytes), m.ID, verb)
	if r.Aborted+r.Committed+r.Offsets > 0 {
		fmt.Fprintf(c.env.Stdout, "; open at the end: %d transactions aborted, %d committed, %d group offsets moved back to the end of their partition", r.Aborted, r.Committed, r.Offsets)
	}
	fmt.Fprintln(c.env.Stdout)
	return nil
}

// timeOf reads a point in time as users write it; "" is the zero time.
func timeOf(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	var ms int64
	if n, err := fmt.Sscanf(s+"\n", "%d\n", &ms); err == nil && n == 1 && ms > 0 {
		return time.UnixMilli(ms), nil
	}
	return time.Time{}, fmt.Errorf("--at %q is no point in time; write 2026-11-24T10:15:00Z, milliseconds since 1970, or a duration back from now such as 90m", s)
}

// bytesText is a number of bytes as people read it.
func bytesText(n int64) string {
	const k = 1024
	if n < k {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/k, 0
	for f >= k && unit < 4 {
		f /= k
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[unit])
}
