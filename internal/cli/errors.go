package cli

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ottla/ottla/internal/config"
)

// polite makes what cobra says of a wrong command line say what to do, in the whole tree under root.
func polite(root *cobra.Command) {
	root.SetFlagErrorFunc(flagError)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return fmt.Errorf("%s; write: %s", wrongArguments(args), cmd.UseLine())
				}
				return nil
			}
		}
		if cmd.HasSubCommands() && cmd.HasParent() {
			group := cmd
			group.Args = cobra.ArbitraryArgs
			group.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) == 0 {
					return cmd.Help()
				}
				return unknownCommand(group, args[0])
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

func wrongArguments(args []string) string {
	if len(args) == 0 {
		return "a name is missing"
	}
	return fmt.Sprintf("%q: not the arguments of this command", strings.Join(args, " "))
}

func unknownCommand(group *cobra.Command, name string) error {
	if near := group.SuggestionsFor(name); len(near) > 0 {
		return fmt.Errorf("there is no `%s %s`; did you mean `%s %s`?", group.CommandPath(), name, group.CommandPath(), near[0])
	}
	return fmt.Errorf("there is no `%s %s`; `%s --help` lists what there is", group.CommandPath(), name, group.CommandPath())
}

var wrongValue = regexp.MustCompile(`^invalid argument (".*") for "(.*)" flag: (.*)$`)

func flagError(cmd *cobra.Command, err error) error {
	help := fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())
	m := wrongValue.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%w; %s", err, help)
	}
	flag := m[2][strings.LastIndex(m[2], " ")+1:]
	want := "a value of another kind"
	if f := cmd.Flag(strings.TrimLeft(flag, "-")); f != nil {
		switch kind := f.Value.Type(); {
		case strings.HasPrefix(kind, "int"):
			want = "a whole number"
		case kind == "duration":
			want = "a time such as 500ms or 15s"
		case kind == "bool":
			want = "true or false"
		}
	}
	return fmt.Errorf("%s %s: it wants %s; %s", flag, m[1], want, help)
}

var requiredFlags = regexp.MustCompile(`^required flag\(s\) (.*) not set$`)

// explain adds what to do to the errors that arrive without it.
func explain(err error) error {
	if m := requiredFlags.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("--%s is missing; --help says what it takes", strings.ReplaceAll(strings.Trim(m[1], `"`), `", "`, " and --"))
	}
	if text := err.Error(); strings.HasPrefix(text, `unknown command "`) && !strings.Contains(text, "Did you mean") {
		return fmt.Errorf("%w; `ottla --help` lists the commands", err)
	}
	return err
}

// topicError says what is wrong with a topic, given a broker's error and message.
func topicError(topic string, err error, message string) error {
	text := detail(err, message)
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("topic %s: %w", topic, noSuchTopic{err})
	case errors.Is(err, kerr.InvalidConfig):
		if _, name, ok := strings.Cut(text, "Unknown topic config name: "); ok {
			if near := config.Nearest(config.Topic, name); near != "" {
				text += "; the nearest name is " + near
			} else {
				text += "; `ottla topic describe NAME --all-configs` lists the names"
			}
		}
	}
	return fmt.Errorf("topic %s: %s", topic, text)
}

type noSuchTopic struct{ err error }

func (noSuchTopic) Error() string {
	return "there is no such topic (UNKNOWN_TOPIC_OR_PARTITION); `ottla topic list` shows what there is"
}
func (n noSuchTopic) Unwrap() error { return n.err }

// groupError says what is wrong with a group.
func groupError(group string, err error) error {
	if errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("group %s: there is no such group (GROUP_ID_NOT_FOUND); `ottla group list` shows what there is", group)
	}
	return fmt.Errorf("group %s: %w", group, err)
}

// checkBrokers refuses what cannot be an address.
func checkBrokers(brokers []string) error {
	if len(brokers) == 0 {
		return errors.New("--bootstrap is empty; give it host:port, or leave it out for localhost:9092")
	}
	for _, b := range brokers {
		if u, err := url.Parse(b); err == nil && u.Scheme != "" && u.Host != "" {
			return fmt.Errorf("--bootstrap %s is a URL; give host:port alone: %s", b, u.Host)
		}
		if strings.TrimSpace(b) == "" {
			return errors.New("--bootstrap has an empty address; give host:port[,host:port]")
		}
	}
	return nil
}

// count is "1 record" or "n records" of a noun.
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
