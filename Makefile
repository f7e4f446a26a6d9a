# locker: see README.md. 'make help' lists the targets.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.version=$(VERSION)
STATICCHECK_VERSION := v0.8.2
FUZZTIME ?= 30s
KILLS    ?= 20000
export CGO_ENABLED ?= 0

.PHONY: build demo test check bench fuzz torture help clean need-go

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

need-go:
	@command -v $(GO) >/dev/null 2>&1 || { echo "make: Go 1.26 or newer is missing; see https://go.dev/doc/install" >&2; exit 1; }
	@$(GO) version | awk '{ split(substr($$3, 3), v, "."); if (v[1] + 0 < 1 || v[1] + 0 == 1 && v[2] + 0 < 26) { \
	  print "make: Go 1.26 or newer is needed, and this is " $$3 > "/dev/stderr"; exit 1 } }'

build: need-go ## bin/locker and bin/lockerd
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/locker ./cmd/lockerd

demo: build ## the main job on real files, with two real users when root
	@sh docs/examples/demo.sh bin

test: need-go ## the tests, as whoever you are; what needs root is skipped for others, and counted
	@sh .ci/test.sh

check: need-go ## gofmt, vet, staticcheck, race tests, fuzz seeds, import and privilege laws
	@bad=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	  if [ -n "$$bad" ]; then echo "not gofmt'ed:" $$bad >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION) ./...
	@command -v gcc >/dev/null 2>&1 || { echo "make: the race detector needs gcc; apt-get install gcc libc6-dev" >&2; exit 1; }
	CGO_ENABLED=1 $(GO) test -race -timeout 40m ./...

bench: build ## figures beside a bare echo server and flock(1), in one run
	$(GO) test -run '^$$' -bench . -benchtime 2s -timeout 30m ./...

torture: need-go ## kill broker and keeper 20,000 times each, and 4,000 clients, and print what came of it
	LOCKER_TORTURE=$(KILLS) $(GO) test -count 1 -timeout 0 -v -run '^TestTorture$$' ./torture

fuzz: need-go ## every fuzz target for FUZZTIME (30s)
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

clean: ## remove what was built
	rm -rf bin
