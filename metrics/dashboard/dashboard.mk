# The dashboard, built by Vite and put into the program as $(BUILD)/dashboard.c. Where that cannot be done the file says
# why, and each later make tries again.
DASHBOARD_SRC := $(shell find metrics/dashboard -name node_modules -prune -o -type f ! -name '*.md' ! -name '*.webp' ! -name '*.png' -print)
$(BUILD)/dashboard.c: $(DASHBOARD_SRC)
	$(Q)metrics/dashboard/build.sh $@
$(BUILD)/obj/dashboard.o: $(BUILD)/dashboard.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
