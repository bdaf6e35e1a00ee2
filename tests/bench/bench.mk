# The bench's own programs. Included by the Makefile; or: make -f Makefile -f tests/bench/bench.mk bench-tools
BENCH_TOOLS := $(addprefix $(BUILD)/,bench-null bench-forward bench-load)

$(BUILD)/bench-%: $(BUILD)/obj/tests/bench/tools/bench-%.o $(call obj,tests/bench/tools/common.c tests/bench/tools/histogram.c)
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lssl -lcrypto

.SECONDARY: $(call obj,$(wildcard tests/bench/tools/*.c))
.PHONY: bench-tools bench bench-instructions
bench-tools: $(BENCH_TOOLS)
bench: bench-tools $(PROGRAMS)  ## measure against nginx, HAProxy and the do-nothing programs (ARGS=--quick)
	$(Q)BUILD=$(BUILD) python3 tests/bench/bench.py $(ARGS)
bench-instructions: bench-tools $(BUILD)/promptops-sidecar $(BUILD)/promptops-origin  ## count instructions and system calls of a request
	$(Q)BUILD=$(BUILD) python3 tests/bench/instructions.py $(ARGS)
