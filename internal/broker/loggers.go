package broker

import (
	"log/slog"
	"maps"
	"sync"
)

// loggers are the broker's log levels by the names Kafka's tools use. There is one stream of logs, so one logger: root.
type loggers struct {
	level *slog.LevelVar

	mu   sync.Mutex
	root string
}

func newLoggers(level *slog.LevelVar) *loggers {
	l := &loggers{level: level, root: "INFO"}
	if level.Level() <= slog.LevelDebug {
		l.root = "DEBUG"
	}
	return l
}

// Levels are the loggers and their levels.
func (l *loggers) Levels() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return map[string]string{"root": l.root}
}

// Set changes levels; they have been checked.
func (l *loggers) Set(levels map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, text := range maps.All(levels) {
		if name != "root" || text == "" {
			continue
		}
		l.root = text
		switch text {
		case "TRACE", "DEBUG":
			l.level.Set(slog.LevelDebug)
		case "INFO":
			l.level.Set(slog.LevelInfo)
		case "WARN":
			l.level.Set(slog.LevelWarn)
		default:
			l.level.Set(slog.LevelError)
		}
	}
}
