# promptops-sidecar. `make help` lists the goals. Quiet unless V=1.
BUILD ?= build
CC ?= gcc
MODE ?= release
V ?= 0
Q := $(if $(filter 1,$(V)),,@)

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
HARDEN := -fstack-protector-strong -fPIE -fno-plt
LDHARDEN := -pie -Wl,-z,relro,-z,now,-z,noexecstack
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2 -fno-omit-frame-pointer
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_ubsan := -O1 -g -fsanitize=undefined -fno-sanitize-recover=all
CFLAGS_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
CFLAGS_coverage := -O0 -g --coverage
CPPFLAGS += -I. -I$(BUILD) -D_GNU_SOURCE
CFLAGS += -std=c11 $(WARN) $(HARDEN) $(CFLAGS_$(MODE)) -MMD -MP -pthread
LDFLAGS += $(LDHARDEN) -pthread $(filter -fsanitize% --coverage,$(CFLAGS_$(MODE)))
LIBS_PROXY := -levent_core -levent_extra -lssl -lcrypto -lyaml -ljansson -lmsgpackc -lm
LIBS_CLI := -lcurl -ljansson -lm
LIBS_TEST := -lcheck_pic -lsubunit -lrt -lm

POLICY_SRC := $(wildcard policy/*.c)
METRICS_SRC := $(wildcard metrics/*.c)
PROXY_SRC := $(filter-out proxy/main.c,$(wildcard proxy/*.c))
CLI_SRC := $(wildcard metrics/cli/*.c)
ORIGIN_SRC := $(wildcard tests/origin/*.c)
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
BENCH_SRC := $(wildcard tests/bench/*.c)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB := $(call obj,$(POLICY_SRC) $(METRICS_SRC) $(PROXY_SRC))
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))

PROGRAMS := $(if $(wildcard proxy/main.c),$(BUILD)/promptops-sidecar) \
            $(if $(CLI_SRC),$(BUILD)/promptops-perf) $(if $(ORIGIN_SRC),$(BUILD)/promptops-origin)

.DEFAULT_GOAL := all
.PHONY: all unit clean help
all: $(PROGRAMS)          ## build the programs into build/

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC    $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/libsidecar.a: $(LIB)
	@rm -f $@; ar rcs $@ $^

$(BUILD)/promptops-sidecar: $(call obj,proxy/main.c) $(BUILD)/libsidecar.a
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_PROXY)

$(BUILD)/promptops-perf: $(call obj,$(CLI_SRC)) $(BUILD)/libsidecar.a
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_CLI)

$(BUILD)/promptops-origin: $(call obj,$(ORIGIN_SRC)) $(BUILD)/libsidecar.a
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_PROXY)

# Unit tests: tests/unit/ROOM/test_X.c tests ROOM/X.c, each a Check program of its own.
$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libsidecar.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_PROXY) $(LIBS_TEST)

unit: $(UNIT_BIN)         ## build and run the unit tests (T=policy/test_x for one)
	$(Q)set -e; for t in $(if $(T),$(BUILD)/unit/$(T),$(UNIT_BIN)); do $$t; done

clean:                    ## remove build/
	rm -rf $(BUILD)

help:                     ## list the goals
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-12s %s\n", $$1, $$2}' Makefile

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
