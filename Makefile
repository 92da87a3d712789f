# make test        every test this machine can run; says what it skipped and why
# make check       the quick half: vet, staticcheck, the law, unit tests
# make bench       Go benchmarks;  make bench-kafka: side by side with Apache Kafka
SHELL := /bin/bash
GO ?= go
BIN := bin/ottla
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@2026.1

.PHONY: build test check vet unit race interop crash bench bench-kafka fuzz docs

build:
	$(GO) build -trimpath -o $(BIN) ./cmd/ottla

test: check race interop crash

check: vet unit

vet:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

unit:
	$(GO) test -tags invariants $$($(GO) list ./... | grep -v -e /test/)
