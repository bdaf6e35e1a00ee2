# The bench's own programs. Included by the Makefile; or: make -f Makefile -f tests/bench/bench.mk bench-tools
BENCH_TOOLS := $(addprefix $(BUILD)/,bench-null bench-forward bench-load bench-history)

$(BUILD)/bench-%: $(BUILD)/obj/tests/bench/tools/bench-%.o $(call obj,tests/bench/tools/common.c tests/bench/tools/histogram.c)
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lssl -lcrypto

$(BUILD)/bench-history: $(BUILD)/obj/tests/bench/tools/bench-history.o $(call obj,$(METRICS_SRC))
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lm

.SECONDARY: $(call obj,$(wildcard tests/bench/tools/*.c))
.PHONY: bench-tools bench
bench-tools: $(BENCH_TOOLS)
bench: bench-tools $(PROGRAMS)  ## measure against nginx, HAProxy and the do-nothing programs (ARGS=--quick)
	$(Q)BUILD=$(BUILD) python3 tests/bench/bench.py $(ARGS)
