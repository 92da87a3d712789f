# make test         every test this machine can run; says what it skipped and why
# make check        the quick half: format, vet, staticcheck, the law, unit tests
# make bench        Go benchmarks;  make bench-kafka: side by side with Apache Kafka
# make fuzz         every fuzz target, FUZZTIME each (default 30s)
# make abuse       hostile clients against a real broker process
# make chaos         a cluster of real processes under faults: CHAOS='-contestant ottla,kafka -minutes 10 -faults all -disks -network'
# make crash RUNS=50, make golden GOLDEN_DIR=...   longer runs, on demand
SHELL := /bin/bash
GO ?= go
BIN := bin/ottla
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 30s
RUNS ?= 5
CHAOS ?= -contestant ottla -minutes 10

# What runs goroutines of its own, and so is tested with the race detector.
SHELLS := . ./internal/broker ./internal/network ./internal/replica/... ./internal/log ./internal/coordinator/... ./internal/purgatory ./internal/timewheel ./internal/metadata/... ./internal/vfs ./internal/vnet ./test/churn

.PHONY: build test check vet unit race interop cluster crash abuse full golden bench bench-kafka fuzz docs chaos chaos-smoke

build:
	$(GO) build -trimpath -o $(BIN) ./cmd/ottla

test: check race interop crash abuse full cluster chaos-smoke
	@echo "all of it passed; the lines with SKIP above say what this machine could not run, and why"

check: vet unit

vet:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

unit:
	$(GO) test -tags invariants $$($(GO) list ./... | grep -v /test/)

race:
	$(GO) test -race -timeout 20m $(SHELLS)

# Real clients, and the files of real brokers. The skips are printed with their reasons.
interop:
	@set -o pipefail; $(GO) test -count=1 -v -timeout 25m ./test/interop ./test/ondisk 2>&1 | grep -E '^(---|===|\s+---|ok|FAIL|PASS|panic)|SKIP|skip|_test.go' | grep -vE '^=== (RUN|PAUSE|CONT|NAME)'

# Three brokers as real processes, and ours among Apache Kafka's. The skips are printed with their reasons.
cluster:
	$(GO) test -count=1 -v -timeout 25m ./test/cluster ./test/mixed

# Hostile and broken clients against a real process.
abuse:
	$(GO) test -count=1 -v -timeout 15m ./test/abuse

# A real, small disk that fills up (needs root; skipped without).
full:
	$(GO) test -count=1 -v -timeout 15m ./test/full

crash:
	OTTLA_CRASH_RUNS=$(RUNS) $(GO) test -count=1 -v -timeout 45m ./test/crash ./test/peer

golden:
	$(GO) test -count=1 -v -timeout 15m ./test/golden

chaos:
	$(GO) run ./chaos $(CHAOS)

# The short one: three nodes, the faults of processes, and power cuts where there is root.
chaos-smoke:
	$(GO) run ./chaos -smoke

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./internal/...

bench-kafka:
	$(GO) run ./bench/kafka -rounds 5 -v

fuzz:
	@set -e; for pkg in $$($(GO) list ./internal/...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg; \
	  done; \
	done

# The generated pages under docs/ are written by the tests that hold them current.
docs:
	$(GO) test ./internal/config ./internal/api -update
